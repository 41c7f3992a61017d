"""Who may import whom: the rows that `test_architecture.py` holds the package to.

Module names are below `mlxd`; `*` stands for any text. The first layer that names a module owns
it, and a module that no layer names fails the test, so a new file is placed here on purpose.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """Modules that may import each other (without a ring) and the layers named in `may_import`."""

    modules: tuple[str, ...]
    may_import: tuple[str, ...] = ()


ENGINE_CONTRACT = ("kernel", "engine contract")
HTTP_CONTRACT = ("kernel", "dialect contract")

LAYERS: dict[str, Layer] = {
    "version": Layer(("",)),
    "kernel": Layer(("errors", "messages", "events", "history", "status")),
    "engine contract": Layer(("engine", "engine.handle", "engine.protocol"), ("kernel",)),
    "dialect contract": Layer(("api.dialect",), ("kernel",)),
    # From decoded text to blocks: pure, used on both sides of the socket.
    "reading": Layer(
        (
            *("engine.detokenize", "engine.scanner", "engine.attribution"),
            *("engine.markers", "engine.blocks"),
            *("engine.toolcalls", "engine.toolcalls.*"),
        ),
        ENGINE_CONTRACT,
    ),
    "memory pages": Layer(("allocator",)),
    # The server's side of the engine: asyncio, no MLX.
    "engine face": Layer(
        (
            *("engine.supervisor", "engine.supervision", "engine.supervision.*", "engine.phases"),
            *("engine.scripted", "engine.scripts", "engine.scripts.*"),
        ),
        (*ENGINE_CONTRACT, "reading", "memory pages"),
    ),
    # The engine process, and what only it needs. The pure half does not know the MLX half.
    "scheduling": Layer(
        ("engine.scheduler", "engine.pace", "engine.prefill"), (*ENGINE_CONTRACT, "reading")
    ),
    "prompting": Layer(
        (
            *("engine.turns", "engine.template", "engine.traits", "engine.escape"),
            *("engine.arrange", "engine.conversation", "engine.markup", "engine.prompt"),
        ),
        ENGINE_CONTRACT,
    ),
    # Grammars and masks: text, token ids and numpy, no MLX.
    "constraining": Layer(
        (
            *("engine.grammartext", "engine.toolgrammar", "engine.plainvalues"),
            *("engine.jsonschemas", "engine.steering", "engine.closing"),
        ),
        (*ENGINE_CONTRACT, "reading"),
    ),
    # What the command line knows of models too: files and downloads, no MLX.
    "model files": Layer(
        (
            *("engine.modelfiles", "engine.library", "engine.watch"),
            *("engine.demo", "engine.convert"),
        ),
        ("kernel",),
    ),
    "blas": Layer(("engine.blas",)),
    "engine process": Layer(
        (
            *("engine.__main__", "engine.worker", "engine.hosts", "engine.intake", "engine.probe"),
            *("engine.batch", "engine.sampling", "engine.prefixes", "engine.tokentext"),
            *("engine.models", "engine.grammar", "engine.speak"),
        ),
        (
            *(*ENGINE_CONTRACT, "reading", "scheduling", "prompting", "constraining"),
            *("model files", "blas"),
        ),
    ),
    "configuration": Layer(
        ("config", "config_*", "catalog", "machine", "specs"), ("kernel", "engine contract")
    ),
    # Dialects: each knows the two contracts; files of one family share the wording of a vendor.
    "wire": Layer(("api.wire", "api.images", "api.sealed"), HTTP_CONTRACT),
    "openai wording": Layer(
        (
            *("api.openai_errors", "api.openai_wire", "api.openai_sampling"),
            *("api.openai_tools", "api.openai_logprobs", "api.openai_images"),
        ),
        (*HTTP_CONTRACT, "wire"),
    ),
    "openai_chat": Layer(
        ("api.openai_chat", "api.openai_chat_*"), (*HTTP_CONTRACT, "wire", "openai wording")
    ),
    "openai_responses": Layer(
        ("api.openai_responses", "api.openai_responses_*"),
        (*HTTP_CONTRACT, "wire", "openai wording"),
    ),
    "anthropic": Layer(("api.anthropic", "api.anthropic_*"), (*HTTP_CONTRACT, "wire")),
    # The one dialect that knows others: it is OpenAI's APIs at other paths.
    "azure": Layer(
        ("api.azure", "api.azure_*"), (*HTTP_CONTRACT, "openai_chat", "openai_responses")
    ),
    "dialect list": Layer(
        ("api",),
        (
            *("dialect contract", "configuration"),
            *("openai_chat", "openai_responses", "anthropic", "azure"),
        ),
    ),
    # HTTP itself: it sees engines through `engine.handle` and dialects through the list.
    "http": Layer(("api.*",), (*HTTP_CONTRACT, "engine contract", "configuration", "dialect list")),
    "connections": Layer(("listener", "connection")),
    # Written by the server, read by its dashboard.
    "admin token": Layer(("admin_token",)),
    # What is remembered between requests; the only ones with `sqlite3`.
    "store": Layer(("conversations", "conversations_*"), ("kernel", "configuration")),
    "server": Layer(
        ("server", "logs"),
        (
            *(*HTTP_CONTRACT, "engine contract", "engine face", "configuration"),
            *("dialect list", "http", "connections", "store", "admin token"),
            "memory pages",
        ),
    ),
    # Terminal apps: they know the server by its wire alone.
    "tui": Layer(("tui", "tui.*"), ("admin token", "kernel", "version")),
    "commands": Layer(
        ("__main__", "cli", "commands", "commands.*", "doctor", "stock"),
        (
            *("kernel", "configuration", "server", "model files", "engine process"),
            *("tui", "admin token", "store"),
        ),
    ),
}

# Functions may import late only here: the command line starts fast, the engine process loads the
# BLAS before MLX.
LATE_IMPORTS = (
    *("cli", "commands.*", "doctor", "engine.library", "engine.demo"),
    *("engine.__main__", "engine.probe", "engine.speak"),
)

ENGINE_PROCESS = LAYERS["engine process"].modules
# Who may import which package from outside; one that is not named here is not a dependency.
OWNERS: dict[str, tuple[str, ...]] = {
    "mlx": ENGINE_PROCESS,
    "mlx_lm": ENGINE_PROCESS,
    "transformers": ENGINE_PROCESS,
    "tokenizers": ("engine.convert",),
    "gguf": ("engine.convert",),
    "safetensors": ("engine.convert",),
    "numpy": (*ENGINE_PROCESS, "engine.convert", "engine.steering", "engine.closing"),
    "llguidance": (*LAYERS["constraining"].modules, "engine.grammar"),
    "huggingface_hub": ("engine.library",),
    "quart": ("api.*",),
    "werkzeug": ("api.*",),
    "hypercorn": ("server", "listener", "connection"),
    "h11": ("connection",),
    "textual": ("tui.*",),
    "rich": ("tui.*",),
    "httpx": ("tui.client",),
    "httpx_sse": ("tui.client",),
    "pydantic": ("config", "config_*", "api.wire", "api.openai_*", "api.anthropic*"),
    "pydantic_core": ("config", "config_*", "api.wire", "api.openai_*", "api.anthropic*"),
    "pydantic_settings": ("config", "config_*"),
    "tomli_w": ("config_template",),
    "prometheus_client": ("api.metrics",),
    "platformdirs": (
        *("config_file", "engine.demo", "conversations", "tui.chat_history", "admin_token"),
    ),
    "click": ("cli", "commands.*", "server"),
    "msgspec": ("*",),
}

NEVER_IN_SERVER = ("mlx", "mlx_lm", "transformers")
NEVER_AT_START = ("quart", "hypercorn", "textual", "httpx", "pydantic", *NEVER_IN_SERVER)
