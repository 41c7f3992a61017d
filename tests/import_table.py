"""Who may import whom: the rows that `test_architecture.py` holds the package to."""

KERNEL = ("errors", "messages", "events")
ENGINE_CONTRACT = (*KERNEL, "engine.handle", "engine.protocol")
READING = ("engine.markers", "engine.toolcalls", "engine.blocks")
# Behind the process line: these run in the engine process and may import MLX.
ENGINE_PROCESS = (
    *("engine.batch", "engine.blas", "engine.demo", "engine.detokenize", "engine.grammar"),
    *("engine.models", "engine.prefixes", "engine.prompt", "engine.sampling", "engine.scheduler"),
)

# Names are below `mlxd`; `*` matches within a row. A module that no row names fails, so a new file
# is placed here on purpose.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "": (),
    "errors": (),
    "messages": (),
    "events": ("errors", "messages"),
    "config": ("errors", "messages"),
    "config_errors": ("config",),
    "config_layers": ("errors", "config", "config_errors"),
    "config_file": ("errors", "config", "config_errors", "config_layers"),
    "engine": (),
    "engine.handle": KERNEL,
    "engine.protocol": (*KERNEL, "engine.handle"),
    "engine.markers": KERNEL,
    "engine.toolcalls": KERNEL,
    "engine.blocks": (*ENGINE_CONTRACT, *READING),
    "engine.scripted": (*ENGINE_CONTRACT, *READING),
    "engine.supervisor": (*ENGINE_CONTRACT, *READING),
    "engine.__main__": (*ENGINE_CONTRACT, *ENGINE_PROCESS),
    **dict.fromkeys(ENGINE_PROCESS, (*ENGINE_CONTRACT, *ENGINE_PROCESS)),
    "engine.scheduler": ENGINE_CONTRACT,
    "engine.blas": (),
    "api.dialect": KERNEL,
    "api.openai_chat": (*KERNEL, "api.dialect"),
    "api": ("api.dialect", "api.openai_chat"),
    "api.sse": ("api.dialect",),
    "api.auth": (*KERNEL, "config", "api.dialect"),
    "api.health": (*KERNEL, "engine.handle"),
    "api.exchange": (*KERNEL, "engine.handle", "api.dialect", "api.sse"),
    "api.app": (*KERNEL, "config", "engine.handle", "api", "api.*"),
    "listener": (),
    "server": (*KERNEL, "config", "engine.*", "api", "api.*", "listener"),
    "cli": (*KERNEL, "config", "server", "engine.demo", "engine.blas", "engine.scripted"),
    "tui": (),
}
NEVER_IN_SERVER = ("mlx", "mlx_lm", "transformers")
NEVER_AT_START = ("quart", "hypercorn", "textual", "pydantic", *NEVER_IN_SERVER)

MLX_FILES = ("engine.__main__", *ENGINE_PROCESS)
# Who may import which package from outside; a package that is not named here is not a dependency.
OWNERS: dict[str, tuple[str, ...]] = {
    "mlx": MLX_FILES,
    "mlx_lm": MLX_FILES,
    "transformers": MLX_FILES,
    "tokenizers": ("engine.demo",),
    "gguf": ("engine.demo",),
    "numpy": ("engine.demo", "engine.batch", "engine.sampling"),
    "quart": ("api.*",),
    "hypercorn": ("server", "listener"),
    "h11": ("listener",),
    "textual": ("tui.*",),
    "pydantic": ("config", "config_*", "api.openai_chat"),
    "pydantic_core": ("config", "config_*"),
    "pydantic_settings": ("config", "config_layers"),
    "tomli_w": ("config_docs",),
    "platformdirs": ("config_file", "engine.demo", "engine.models"),
    "click": ("cli",),
    "msgspec": ("*",),
}
# Functions may import late only here: these files start fast, or order what MLX loads.
LATE_IMPORTS = ("cli", "engine.__main__", "engine.demo")
