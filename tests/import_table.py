"""Who may import whom: the rows that `test_architecture.py` holds the package to.

A room is a folder of `mlxd`. Loose files of `api` and `engine` are rooms of their own, and those of
`mlxd` itself belong to the rooms in `LOOSE`. All rooms see the kernel; `SEES` has what else.
"""

LOOSE: dict[str, str] = {
    "": "version",
    **dict.fromkeys(("errors", "messages", "events", "history", "status"), "kernel"),
    "admin_token": "admin_token",
    "dialects": "dialects",
    **dict.fromkeys(("cli", "__main__"), "cli"),
}
OWN_ROOM = ("api", "engine")
"""Folders whose loose files are rooms of their own."""

CONTRACT = ("api.dialect",)
ENGINE_CONTRACT = ("engine.interface", "engine.protocol")

SEES: dict[str, tuple[str, ...]] = {
    "version": (),
    "kernel": (),
    "admin_token": (),
    "dialects": (),
    "cli": ("commands", "commands.models", "commands.servers"),
    # Each command imports its world when it runs.
    "commands": (
        *("admin_token", "config", "server", "store", "engine.model_files", "engine.protocol"),
        *(
            "engine.prefix_disk",
            "service",
            "tui",
            "tui.top",
            "tui.chat",
            "tui.chat.local",
            "commands.output",
        ),
        "launch",
    ),
    "commands.models": (
        *("admin_token", "commands", "commands.output", "config"),
        *("engine.model_files", "engine.protocol"),
    ),
    "commands.output": (),
    "commands.servers": (
        *("admin_token", "commands", "commands.output", "config", "server", "service", "tui"),
    ),
    # Other people's agents and their files: it knows the server as an address.
    "launch": (),
    "config": ("dialects", "engine.protocol"),
    # What a server of this account is to systemd and launchd, and to other processes.
    "service": ("admin_token",),
    # What is remembered between requests.
    "store": ("config",),
    "server": (
        *("admin_token", "config", "service", "store"),
        *("api.app", "api.admin", "api.dialect", "api.http"),
        *("engine.interface", "engine.supervision", "engine.scripted", "engine.model_files"),
    ),
    # The contracts between dialects and HTTP, and the application; it imports no dialect by name.
    "api": (),
    "api.dialect": (),
    "api.endpoints": (*CONTRACT, "engine.interface", "api.http"),
    "api.model_names": (),
    "api.app": (
        *(*CONTRACT, "api.endpoints", "api.http", "api.admin", "api.page"),
        *("dialects", "config", "engine.interface"),
    ),
    "api.wire": (*CONTRACT, "api.model_names"),
    "api.http": (*CONTRACT, "engine.interface", "api.model_names", "config"),
    # Vendors see the contract and their own wording. Azure's API is OpenAI's at other paths.
    "api.openai": (*CONTRACT, "api.wire"),
    "api.openai.chat": ("api.dialect", "api.openai", "api.wire", "config"),
    "api.openai.responses": (
        *(*CONTRACT, "api.endpoints", "api.openai", "api.openai.responses.format"),
        *("api.http", "api.wire", "config", "engine.interface"),
    ),
    "api.openai.responses.format": ("api.dialect", "api.wire", "api.openai"),
    "api.azure": (
        *(*CONTRACT, "api.endpoints", "api.model_names", "api.wire", "config"),
        *("api.openai", "api.openai.chat", "api.openai.responses", "api.openai.responses.format"),
    ),
    "api.anthropic": (*CONTRACT, "api.wire", "config"),
    "api.ollama": (
        *(*CONTRACT, "api.endpoints", "api.http", "api.model_names", "api.wire", "config"),
    ),
    "api.admin": (
        *CONTRACT,
        "engine.interface",
        "api.http",
        "api.model_names",
        "api.wire",
        "config",
    ),
    # Static files for browsers; not in `/admin`, which web pages may not call.
    "api.page": ("api.http",),
    # What everyone sees of an engine, and the messages on its socket.
    "engine": (),
    "engine.interface": (),
    "engine.protocol": ("engine.interface",),
    "engine.phase_times": (),
    "engine.__main__": ("engine.process",),
    # From text to calls and events, and back: no process, no MLX.
    "engine.notations": ("engine.notations.reading",),
    "engine.notations.reading": (),
    "engine.parsing": ("engine.interface", "engine.notations", "engine.notations.reading"),
    "engine.prompt": (*ENGINE_CONTRACT, "engine.notations", "engine.parsing"),
    "engine.grammar": (
        *("engine.interface", "engine.notations", "engine.notations.reading"),
        *("engine.parsing", "engine.prompt"),
    ),
    "engine.scheduling": ("engine.protocol", "engine.parsing"),
    # The engine process.
    "engine.models": (*ENGINE_CONTRACT, "engine.prompt", "engine.model_files"),
    # Prefixes as files: what the command line sees of them too.
    "engine.prefix_disk": ("engine.protocol",),
    "engine.batching": (
        *("engine.scheduling", "engine.grammar", "engine.models", "engine.prompt"),
        *("engine.parsing", "engine.prefix_disk"),
    ),
    "engine.process": (
        *("engine.protocol", "engine.parsing", "engine.prompt", "engine.grammar"),
        *("engine.scheduling", "engine.batching", "engine.models", "engine.model_files"),
        "engine.prefix_disk",
    ),
    # What the command line knows of models too: files and downloads.
    "engine.model_files": (),
    # The server's side of the engine.
    "engine.supervision": (*ENGINE_CONTRACT, "engine.phase_times", "engine.parsing"),
    # Reads schemas as a grammar would, and compiles none.
    "engine.scripted": ("engine.interface", "engine.phase_times", "engine.grammar"),
    # Terminal apps know the server by its wire alone.
    "tui": (),
    "tui.top": ("tui",),
    "tui.chat": ("tui", "tui.chat.local"),
    # Files of this machine, and what a person sets.
    "tui.chat.local": (),
}

# Functions may import late only here: the command line and the server start fast, the engine
# process loads the BLAS before MLX.
LATE_IMPORTS = (
    *("cli", "commands.*", "engine.model_files.hub", "engine.model_files.demo_model"),
    *("engine.__main__", "engine.process.probe", "engine.process.smoke_test"),
    "engine.scripted.json_generator",
)

WITH_MLX = ("engine.batching.*", "engine.models.*", "engine.process.*", "engine.__main__")
WITH_PYDANTIC = ("config.*", "api.wire.*", "api.openai.*", "api.anthropic.*", "api.ollama.*")
# Who may import which package from outside; one that is not named here is not a dependency.
OWNERS: dict[str, tuple[str, ...]] = {
    "mlx": WITH_MLX,
    "mlx_lm": WITH_MLX,
    "transformers": (*WITH_MLX, "engine.grammar.constrainer"),
    "tokenizers": ("engine.model_files.gguf",),
    "gguf": ("engine.model_files.gguf",),
    "safetensors": ("engine.model_files.gguf",),
    "numpy": (
        *(*WITH_MLX, "engine.grammar.*", "engine.model_files.gguf", "engine.prefix_disk.index"),
    ),
    "llguidance": ("engine.grammar.*",),
    "huggingface_hub": ("engine.model_files.hub",),
    "quart": ("api.http.*", "api.admin.*", "api.page.*", "api.app"),
    "werkzeug": ("api.http.*",),
    "hypercorn": ("server.*",),
    "h11": ("server.http11", "server.connection"),
    "sqlite3": ("store.*",),
    "textual": ("tui.*",),
    "rich": ("tui.*",),
    "httpx": ("tui.client",),
    "httpx_sse": ("tui.client",),
    "pydantic": WITH_PYDANTIC,
    "pydantic_core": WITH_PYDANTIC,
    "pydantic_settings": ("config.*",),
    "tomli_w": ("config.toml_writer", "launch.list_entry"),
    "yaml": ("launch.list_entry",),
    "prometheus_client": ("api.admin.metrics",),
    "jsonschema": ("engine.scripted.json_generator",),
    "referencing": ("engine.scripted.json_generator",),
    "platformdirs": (
        *("config.places", "config.engine_specs", "engine.model_files.demo_model"),
        *("store.conversations", "engine.process.kept_files"),
        *("tui.chat.input_history", "tui.chat.local.kept_chats"),
        *("admin_token", "service.log_files"),
    ),
    "click": ("cli", "commands.*", "server.*"),
    "msgspec": ("*",),
}

NEVER_IN_SERVER = ("mlx", "mlx_lm", "transformers")
NEVER_AT_START = ("quart", "hypercorn", "textual", "httpx", "pydantic", *NEVER_IN_SERVER)
