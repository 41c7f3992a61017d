"""Who may import whom: the rows that `test_architecture.py` holds the package to.

A room is a folder of `mlxd`. Loose files of `api` and `engine` are rooms of their own, and those of
`mlxd` itself belong to the rooms in `LOOSE`. All rooms see the kernel; `SEES` has what else.
"""

LOOSE: dict[str, str] = {
    "": "version",
    **dict.fromkeys(("errors", "messages", "events", "history", "status"), "kernel"),
    "admin_token": "admin_token",
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
    "cli": ("commands",),
    # Each command imports its world when it runs.
    "commands": (
        *("admin_token", "config", "server", "store", "engine.model_files"),
        *("tui", "tui.top", "tui.chat"),
    ),
    "config": ("engine.protocol",),
    # What is remembered between requests.
    "store": ("config",),
    "server": (
        *("admin_token", "config", "store", "api.app", "api.admin"),
        *("engine.interface", "engine.supervision", "engine.scripted"),
    ),
    # The contract between dialects and HTTP, and the application that sees all rooms of `api`.
    "api": (
        *("api.dialect", "config"),
        *("api.openai.chat", "api.openai.responses", "api.anthropic", "api.azure"),
    ),
    "api.dialect": (),
    "api.app": (
        *("api", "api.dialect", "api.http", "api.admin", "api.openai.responses"),
        *("config", "engine.interface"),
    ),
    "api.wire": (),
    "api.http": (*CONTRACT, "config", "engine.interface"),
    # Vendors see the contract and their own wording. Azure's API is OpenAI's at other paths.
    "api.openai": (*CONTRACT, "api.wire"),
    "api.openai.chat": (*CONTRACT, "api.openai"),
    "api.openai.responses": (
        *(*CONTRACT, "api.openai", "api.openai.responses.format"),
        *("api.http", "engine.interface"),
    ),
    "api.openai.responses.format": (*CONTRACT, "api.wire", "api.openai"),
    "api.azure": (*CONTRACT, "api.openai.chat", "api.openai.responses"),
    "api.anthropic": (*CONTRACT, "api.wire"),
    "api.admin": (*CONTRACT, "api.http", "config", "engine.interface"),
    # What everyone sees of an engine, and the messages on its socket.
    "engine": (),
    "engine.interface": (),
    "engine.protocol": ("engine.interface",),
    "engine.phase_times": ("engine.interface",),
    "engine.__main__": ("engine.process",),
    # From text to calls and events, and back: no process, no MLX.
    "engine.notations": (),
    "engine.parsing": ("engine.interface", "engine.notations"),
    "engine.prompt": ENGINE_CONTRACT,
    "engine.grammar": (
        *("engine.interface", "engine.notations", "engine.parsing", "engine.prompt"),
    ),
    "engine.scheduling": ("engine.protocol", "engine.parsing"),
    # The engine process.
    "engine.models": (*ENGINE_CONTRACT, "engine.prompt", "engine.model_files"),
    "engine.batching": ("engine.scheduling", "engine.grammar", "engine.models"),
    "engine.process": (
        *(*ENGINE_CONTRACT, "engine.parsing", "engine.prompt", "engine.grammar"),
        *("engine.scheduling", "engine.batching", "engine.models"),
    ),
    # What the command line knows of models too: files and downloads.
    "engine.model_files": (),
    # The server's side of the engine.
    "engine.supervision": (*ENGINE_CONTRACT, "engine.phase_times", "engine.parsing"),
    "engine.scripted": ("engine.interface", "engine.phase_times"),
    # Terminal apps know the server by its wire alone.
    "tui": (),
    "tui.top": ("tui",),
    "tui.chat": ("tui",),
}

# Functions may import late only here: the command line and the server start fast, the engine
# process loads the BLAS before MLX.
LATE_IMPORTS = (
    *("cli", "commands.*", "engine.model_files.library", "engine.model_files.demo_model"),
    *("engine.__main__", "engine.process.probe", "engine.process.smoke_test"),
    "engine.scripted.json_generator",
)

WITH_MLX = ("engine.batching.*", "engine.models.*", "engine.process.*", "engine.__main__")
WITH_PYDANTIC = ("config.*", "api.wire.*", "api.openai.*", "api.anthropic.*")
# Who may import which package from outside; one that is not named here is not a dependency.
OWNERS: dict[str, tuple[str, ...]] = {
    "mlx": WITH_MLX,
    "mlx_lm": WITH_MLX,
    "transformers": (*WITH_MLX, "engine.grammar.constrainer"),
    "tokenizers": ("engine.model_files.gguf",),
    "gguf": ("engine.model_files.gguf",),
    "safetensors": ("engine.model_files.gguf",),
    "numpy": (*WITH_MLX, "engine.grammar.*", "engine.model_files.gguf"),
    "llguidance": ("engine.grammar.*",),
    "huggingface_hub": ("engine.model_files.library",),
    "quart": ("api.*",),
    "werkzeug": ("api.*",),
    "hypercorn": ("server.*",),
    "h11": ("server.connection",),
    "sqlite3": ("store.*",),
    "textual": ("tui.*",),
    "rich": ("tui.*",),
    "httpx": ("tui.client",),
    "httpx_sse": ("tui.client",),
    "pydantic": WITH_PYDANTIC,
    "pydantic_core": WITH_PYDANTIC,
    "pydantic_settings": ("config.*",),
    "tomli_w": ("config.toml_writer",),
    "prometheus_client": ("api.admin.metrics",),
    "jsonschema": ("engine.scripted.json_generator",),
    "referencing": ("engine.scripted.json_generator",),
    "platformdirs": (
        *("config.load", "engine.model_files.demo_model", "store.conversations"),
        *("tui.chat.input_history", "admin_token"),
    ),
    "click": ("cli", "commands.*", "server.*"),
    "msgspec": ("*",),
}

NEVER_IN_SERVER = ("mlx", "mlx_lm", "transformers")
NEVER_AT_START = ("quart", "hypercorn", "textual", "httpx", "pydantic", *NEVER_IN_SERVER)
