"""The configuration: one frozen tree from flags, environment, one TOML file and defaults.

Nothing is read or created at import. `Settings()` holds the defaults alone; `mlxd.config.load.load`
is what reads the environment and a file. `config/mlxd.toml` shows every key with its docstring and
its default, and a test keeps the two equal.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mlxd.dialects import DIALECTS
from mlxd.messages import SWITCHES, ReasoningMode, Scalar, StopRepetition, read_switch

if TYPE_CHECKING:
    DialectName = str
else:
    DialectName = Literal[tuple(DIALECTS)]
ToolFormat = Literal[
    "json_tools",
    "hermes",
    "qwen3_coder",
    "seed_oss",
    "glm47",
    "laguna",
    "longcat",
    "gemma4",
    "function_gemma",
    "kimi_k2",
    "kimi_k3",
    "minimax_m1",
    "minimax_m2",
    "minimax_m3",
    "minicpm5",
    "muse_spark",
    "mistral",
    "pythonic",
    "bare_pythonic",
    "olmo3",
    "harmony",
    "llama3_json",
    "deepseek",
    "deepseek_v32",
    "deepseek_v4",
    "cohere",
    "granite",
    "nemotron",
    "hunyuan",
    "phi4",
    "gigachat",
    "command_r_plus",
    "functionary_v3",
    "granite_20b",
    "hy_v3",
    "internlm2",
    "solar",
    "apertus",
    "bare_json",
]
"""The notations of `mlxd.engine.notations`; a test keeps the two equal."""


def _matching(pattern: str, expected: str) -> AfterValidator:
    """A string that `pattern` matches as a whole; `expected` says so in words."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value):
            return value
        raise PydanticCustomError("pattern", "expected {expected}", {"expected": expected})

    return AfterValidator(check)


Alias = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}",
        "a name of letters, digits, '.', '_', ':', '/' and '-'",
    ),
]
AliasPattern = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9*][A-Za-z0-9._:/*-]{0,127}",
        "a name of letters, digits, '.', '_', ':', '/', '-' and '*'",
    ),
]
ApiKey = Annotated[str, _matching(r"[\x21-\x7e]+", "visible ASCII characters without spaces")]
AdminToken = Annotated[
    str, _matching(r"|[\x21-\x7e]{16,}", "at least 16 visible ASCII characters without spaces")
]
HostName = Annotated[str, _matching(r"[^\s/@]+", "a host name without scheme or path")]
Origin = Annotated[
    str,
    _matching(
        r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+",
        'an origin such as "https://app.example" (no path), or "*"',
    ),
]
TemplateArg = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")]
# A half surrogate stands for a byte of an environment variable that is no UTF-8.
_PRINTABLE = r"[^\x00-\x1f\x7f\ud800-\udfff]"
NonEmpty = Annotated[
    str,
    _matching(
        rf"(?=.*\S){_PRINTABLE}+",
        "a string that is not empty and has no control characters",
    ),
]
Tag = Annotated[str, _matching(rf"(?=\s*\S)(?:{_PRINTABLE}|\s)+", "a tag such as <think>")]

PathText = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "a path without control characters")]
"""A path as it is written in the file; empty for the usual place."""

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Field(gt=0, le=10_000_000)]

# TOML has lists where the tree has tuples; everything else must have the type it is declared with.
Listed = Strict(False)


class Section(BaseModel):
    """A table of the file: immutable, and every key must be known."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class ServerSettings(Section):
    host: HostName = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `api_keys`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8484
    """Port to listen on; 0 takes a free one."""
    api_keys: Annotated[tuple[ApiKey, ...], Listed, Field(repr=False)] = ()
    """Keys that callers must present; empty means no key is asked for (loopback only)."""
    allowed_hosts: Annotated[tuple[HostName, ...], Listed] = ()
    """Host header names served besides loopback and `.internal` names and `host` itself."""
    cors_origins: Annotated[tuple[Origin, ...], Listed] = ()
    """Origins that may call besides loopback ones and those of apps; "*" allows every origin."""
    unknown_model: Literal["auto", "default", "refuse"] = "auto"
    """A model name nobody configured: `default` answers with the default model, `refuse` is a 404,
    `auto` answers when only one model is configured."""
    max_queue: Count = 64
    """Requests that may wait for a slot; past it callers get 503 with Retry-After."""
    max_connections: Count = 256
    """Open connections at once."""
    max_body: Annotated[int, Field(ge=1024, le=2**62)] = 32 * 1024 * 1024
    """Bytes of one request body."""
    max_bodies: Annotated[int, Field(ge=1024, le=2**62)] = 128 * 1024 * 1024
    """Bytes of all request bodies that are being received or parsed at once."""
    request_seconds: Seconds = 1800.0
    """The longest a request may run, queueing included."""
    drain_seconds: Annotated[float, Field(ge=0, le=10_000_000)] = 30.0
    """How long running requests may go on after SIGTERM or Ctrl-C."""
    validation_status: Literal[400, 422] = 400
    """HTTP status of a malformed request; 400 is what the vendors send."""


class SamplingSettings(Section):
    """What `[defaults]` and `[models.*]` say about sampling: keys are named as in `Sampling`.

    What neither writes is as the model's own `generation_config.json` says, or else as it is here.

    The default is that of `[defaults]`, the example is one for a model.
    """

    temperature: Annotated[float | None, Field(ge=0, le=2, examples=[0.2])] = 0.7
    """Randomness of sampling; 0 always takes the most likely token."""
    top_p: Annotated[float | None, Field(gt=0, le=1, examples=[0.9])] = 0.95
    """Sample from the smallest set of tokens with this probability mass."""
    top_k: Annotated[int | None, Field(ge=0, le=2**31 - 1, examples=[40])] = 0
    """Sample from this many of the most likely tokens; 0 means all."""
    min_p: Annotated[float | None, Field(ge=0, le=1, examples=[0.05])] = 0.0
    """Drop tokens less likely than this share of the most likely one."""
    repetition_penalty: Annotated[float | None, Field(ge=0.01, le=10, examples=[1.1])] = 1.0
    """Divides the score of tokens seen before; 1 means no penalty."""


# Keys come in the order of the bases from right to left, so what a table has in front of its
# sampling is a base of its own.
class _DefaultAnswer(Section):
    model: str = ""
    """Alias of the model that answers when a request names none; empty: the first configured."""
    max_tokens: Count = 4096
    """Tokens to generate at most, thinking included."""


class DefaultSettings(SamplingSettings, _DefaultAnswer):
    reasoning: ReasoningMode = "separate"
    """Thinking as its own field (`separate`), dropped (`strip`) or left in the text (`inline`)."""
    stop_repetition: StopRepetition = "tools"
    """Cut answers that only repeat themselves: in requests with `tools`, `always` or `never`."""


class _ModelSource(Section):
    source: Annotated[NonEmpty, Field(examples=["demo"])]
    """`demo`, a Hugging Face repository id, or a folder in mlx-lm's format."""
    aliases: Annotated[
        tuple[AliasPattern, ...], Listed, Field(examples=[["gpt-4o", "claude-*"]])
    ] = ()
    """More names it answers to, such as "gpt-4o"; `*` matches anything ("claude-*")."""
    context_length: Annotated[int | None, Field(ge=16, le=2**31 - 1, examples=[8192])] = None
    """Window in tokens, if it should be smaller than the model's own."""
    max_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1, examples=[2048])] = None
    """As in `[defaults]`."""


def _switches_read(arguments: dict[str, Scalar]) -> dict[str, Scalar]:
    read = dict(arguments)
    for name in SWITCHES:
        if name in read and (switch := read_switch(read[name])) is not None:
            read[name] = switch
        elif read.get(name) is not None:
            what = {"name": name}
            raise PydanticCustomError("switch", "expected true or false for `{name}`", what)
    return read


class ModelSettings(SamplingSettings, _ModelSource):
    """A `[models.<alias>]` table. Keys left out take their value from `[defaults]` or the model."""

    reasoning: Annotated[ReasoningMode | None, Field(examples=["separate"])] = None
    """As in `[defaults]`."""
    stop_repetition: Annotated[StopRepetition | None, Field(examples=["tools"])] = None
    """As in `[defaults]`."""
    template_args: Annotated[
        dict[TemplateArg, Scalar],
        Field(examples=[{"enable_thinking": False}]),
        AfterValidator(_switches_read),
    ] = {}
    """Arguments for the chat template, such as `enable_thinking = false`."""
    tool_format: Annotated[ToolFormat | None, Field(examples=["json_tools"])] = None
    """Notation of tool calls, if it is not found from the chat template."""
    reasoning_tags: Annotated[
        tuple[Tag, Tag] | None, Listed, Field(examples=[["<think>", "</think>"]])
    ] = None
    """Opening and closing tag of thinking, if they are not found from the vocabulary."""
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None, Field(examples=["float32"])
    ] = None
    """Cast the weights; left out: float32 for small unquantised models on Linux CPUs."""
    trust_remote_code: Annotated[bool, Field(examples=[False])] = False
    """Run Python code that comes with the model's files. Only for models you trust as programs."""

    @model_validator(mode="before")
    @classmethod
    def _leave_sampling_open(cls, values: Any) -> Any:
        """What a model does not say is None here, and `[defaults]` says it."""
        left_open = dict.fromkeys(SamplingSettings.model_fields)
        return left_open | values if isinstance(values, dict) else values


class EngineSettings(Section):
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    """Requests decoded together."""
    prefill_budget: Seconds = 0.25
    """Seconds of prefill between two decode steps, so that running streams keep moving."""
    stall_timeout: Seconds = 60.0
    """Seconds without progress, work being queued, after which the engine process is replaced.
    While it starts, it may take twice as long."""
    load_timeout: Seconds = 900.0
    """Seconds without progress, while a model loads, until the engine process is replaced."""
    prefix_cache_bytes: Annotated[int | None, Field(ge=0, le=2**62, examples=[2 * 10**9])] = None
    """The most memory for KV prefixes of earlier requests; left out: what weights and running
    requests leave of `memory_bytes`. It never is more."""
    exact_history: bool = True
    """Go on from an earlier answer in the very tokens in which it was said, where a client sends it
    back unchanged. Off: every prompt depends on its request alone."""
    memory_bytes: Annotated[int | None, Field(ge=0, le=2**62, examples=[12 * 10**9])] = None
    """Memory for weights and KV cache together; left out: what the device recommends."""
    prefix_disk_bytes: Annotated[int, Field(ge=0, le=2**62)] = 0
    """Disk for KV prefixes, so that long conversations go on at once after a restart, such as
    20_000_000_000; 0: none. They are what was said, in the model's own form: docs/prefixes.md."""
    prefix_disk_path: PathText = ""
    """Their folder; empty: in your cache folder. A relative path starts at the folder of the
    configuration file."""
    prefix_disk_daily_bytes: Annotated[int, Field(ge=0, le=2**62)] = 50 * 10**9
    """The most that is written to it in a day (UTC): flash memory wears out."""


class ConversationSettings(Section):
    store: Literal["sqlite", "memory"] = "sqlite"
    """Where responses and conversations are kept: a file that outlives the server, or memory."""
    path: PathText = ""
    """The store's file; empty: in the user's data folder. A relative path starts at the folder of
    the configuration file."""
    ttl: Seconds = 3600.0
    """Seconds since its last use after which a conversation is removed."""
    archive: bool = True
    """Write what is removed to `archive_dir`, one JSON file a conversation."""
    archive_dir: NonEmpty = "conversation_logs"
    """Folder of the archive. A relative path starts at the folder of the store's file."""
    max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**62)] = 1024 * 1024 * 1024
    """Size of the store; beyond it, the conversations that were not used for longest go first."""


class ResponsesSettings(Section):
    reasoning_events: Literal["auto", "text", "summary", "none"] = "auto"
    """How the Responses API shows a model's thinking: as it is, as if it were a summary, or not at
    all; auto: as a summary for requests that ask for one, else as it is."""


class AdminSettings(Section):
    enabled: bool = True
    """Serve /admin and /metrics, for callers with the token that `mlxd top` finds by itself."""
    token: Annotated[AdminToken, Field(repr=False)] = ""
    """A token of your own, the same after every start; empty: a new one is made at each."""
    token_file: PathText = ""
    """File that the token is written to, readable by you alone; empty: in the user's state
    folder."""
    show_text: bool = False
    """Let the dashboard show the beginning of conversations and the end of answers."""


class AzureSettings(Section):
    deployments: Annotated[
        dict[Alias, Alias] | None, Field(examples=[{"my-deployment": "demo"}])
    ] = None
    """Deployment names with the models that answer to them; left out: a deployment is asked for by
    the name of a model."""
    content_filter_results: bool = False
    """Add `content_filter_results` to the choices of chat answers, for clients that insist on it.
    Nothing is filtered: everything is told to be safe."""


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important messages to print."""
    format: Literal["text", "json"] = "text"
    """One readable line, or one JSON object, per message."""


class Settings(BaseSettings):
    """The whole configuration. Building one reads nothing but its arguments."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        # Else a source may write its tables in capitals, while the keys in them may not.
        case_sensitive=True,
        env_prefix="MLXD_",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    dialects: Annotated[tuple[DialectName, ...], Listed, Field(min_length=1)] = tuple(DIALECTS)
    """APIs to serve."""
    server: ServerSettings = ServerSettings()
    """The HTTP side: who may call, and how much."""
    defaults: DefaultSettings = DefaultSettings()
    """What a request gets that does not say otherwise. The keys about sampling beat the model's own
    generation_config.json where they are written, which beats their default values."""
    models: dict[Alias, ModelSettings] = {}
    """The models to serve, one table each; none at all serves the demo model."""
    engine: EngineSettings = EngineSettings()
    """The process that runs the models."""
    conversations: ConversationSettings = ConversationSettings()
    """What is remembered between requests: responses, conversations, background runs."""
    responses: ResponsesSettings = ResponsesSettings()
    """OpenAI's Responses API."""
    admin: AdminSettings = AdminSettings()
    """What `mlxd top` and monitoring see."""
    azure: AzureSettings = AzureSettings()
    """The API as Azure OpenAI has it."""
    log: LogSettings = LogSettings()
    """What is printed while serving."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments alone: `mlxd.config.load.load` gives it other sources."""
        return (init_settings,)


SECRETS = (("server", "api_keys"), ("admin", "token"))
"""Settings that are shown to nobody."""


def without_secrets(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, what is secret masked."""
    tree = settings.model_dump(mode="json")
    for section, key in SECRETS:
        value = tree[section][key]
        tree[section][key] = ["****"] * len(value) if isinstance(value, list) else value and "****"
    return tree
