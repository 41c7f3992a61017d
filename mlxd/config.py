"""The configuration: one frozen tree from flags, environment, one TOML file and defaults.

Nothing is read or created at import. `Settings()` holds the defaults alone; `config/mlxd.toml`
shows each of them with its docstring, and a test keeps the two equal.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DialectName = Literal["openai_chat"]
ReasoningMode = Literal["separate", "strip", "inline"]
Scalar = str | int | float | bool | None
Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the file: immutable, and every key must be known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Server(Section):
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `api_keys`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8484
    """Port to listen on; 0 takes a free one."""
    api_keys: tuple[str, ...] = ()
    """Keys that callers must present; empty means no key is asked for (loopback only)."""
    allowed_hosts: tuple[str, ...] = ()
    """Host header names that are served besides loopback names and `host` itself."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call besides loopback ones; "*" allows every origin."""
    unknown_model: Literal["auto", "default", "refuse"] = "auto"
    """A model name nobody configured: `default` answers with the default model, `refuse` is a 404,
    `auto` answers when only one model is configured."""
    max_queue: Annotated[int, Field(ge=1)] = 64
    """Requests that may wait for a slot; past it callers get 503 with Retry-After."""
    max_connections: Annotated[int, Field(ge=1)] = 256
    """Open connections at once."""
    max_body: Bytes = 32 * 1024 * 1024
    """Bytes of one request body."""
    max_bodies: Bytes = 128 * 1024 * 1024
    """Bytes of all request bodies that are being received or parsed at once."""
    request_seconds: Seconds = 1800.0
    """The longest a request may run, queueing included."""
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How long running requests may go on after SIGTERM or Ctrl-C."""
    validation_status: Literal[400, 422] = 400
    """HTTP status of a malformed request; 400 is what the vendors send."""


class Defaults(Section):
    model: str = ""
    """Alias of the model that answers when a request names none; empty: the first configured."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Randomness of sampling; 0 always takes the most likely token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Sample from the smallest set of tokens with this probability mass."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Sample from this many of the most likely tokens; 0 means all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Drop tokens less likely than this share of the most likely one."""
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Tokens to generate at most, thinking included."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Divides the score of tokens seen before; 1 means no penalty."""
    reasoning: ReasoningMode = "separate"
    """Thinking as its own field (`separate`), dropped (`strip`) or left in the text (`inline`)."""


class Model(Section):
    """A `[models.<alias>]` table. Keys left out take their value from `[defaults]` or the model."""

    source: str
    """`demo`, a Hugging Face repository id, or a folder in mlx-lm's format."""
    aliases: tuple[str, ...] = ()
    """More names it answers to, such as "gpt-4o"; `*` matches anything ("claude-*")."""
    context_length: Annotated[int, Field(ge=16)] | None = None
    """Window in tokens, if it should be smaller than the model's own."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """As in `[defaults]`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """As in `[defaults]`."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """As in `[defaults]`."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """As in `[defaults]`."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """As in `[defaults]`."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    """As in `[defaults]`."""
    reasoning: ReasoningMode | None = None
    """As in `[defaults]`."""
    template_args: dict[str, Scalar] = {}
    """Arguments for the chat template, such as `enable_thinking = false`."""
    tool_format: str | None = None
    """Notation of tool calls, if it is not found from the chat template."""
    reasoning_tags: tuple[str, str] | None = None
    """Opening and closing tag of thinking, if they are not found from the vocabulary."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Cast the weights; left out: float32 for small unquantised models on Linux CPUs."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model's files. Only for models you trust as programs."""


class Engine(Section):
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    """Requests decoded together."""
    prefill_budget: Seconds = 0.25
    """Seconds of prefill between two decode steps, so that running streams keep moving."""
    stall_timeout: Seconds = 60.0
    """Seconds without progress, work being queued, after which the engine process is replaced."""
    load_timeout: Seconds = 900.0
    """Seconds a model may take to load."""
    prefix_cache_bytes: Bytes | None = None
    """Memory for KV prefixes of earlier requests; left out: a tenth of the machine's memory."""
    memory_bytes: Bytes | None = None
    """Memory for weights and KV cache together; left out: what the device recommends."""


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important messages to print."""
    format: Literal["text", "json"] = "text"
    """One readable line, or one JSON object, per message."""


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="MLXD_",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    dialects: tuple[DialectName, ...] = ("openai_chat",)
    """APIs to serve."""
    server: Server = Server()
    defaults: Defaults = Defaults()
    models: dict[str, Model] = {}
    engine: Engine = Engine()
    log: Log = Log()
