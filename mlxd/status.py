"""What the admin endpoint tells: the JSON of `/admin/status` and `/admin/events`, as types.

The server fills them in, `mlxd top` reads them. Times are in seconds, rates in tokens a second, and
sizes in bytes, unless a name says otherwise. Fields are only ever added.
"""

from typing import Literal

import msgspec

from mlxd.events import Phase


class ServerPart(msgspec.Struct, frozen=True, kw_only=True):
    """The server process. `at` is the time of the snapshot since 1970."""

    version: str
    state: Literal["serving", "draining"]
    health: str
    reason: str = ""
    at: float = 0.0
    pid: int = 0
    uptime: float = 0.0
    url: str = ""
    config_file: str = ""
    dialects: tuple[str, ...] = ()
    memory: int = 0
    """Resident memory of the server process."""
    connections: int = 0


class Restart(msgspec.Struct, frozen=True):
    """The engine process was replaced `at` (since 1970), and why."""

    at: float
    reason: str


class EnginePart(msgspec.Struct, frozen=True, kw_only=True):
    """The engine process; `step` is the median duration of the last decode steps."""

    state: str
    reason: str = ""
    pid: int = 0
    uptime: float = 0.0
    device: str = ""
    blas: str = ""
    restarts: int = 0
    last_restarts: tuple[Restart, ...] = ()
    idle: float = 0.0
    """Time since the last sign of progress while work is queued."""
    memory_used: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    step: float = 0.0
    max_batch: int = 0


class ModelPart(msgspec.Struct, frozen=True, kw_only=True):
    """A configured model; `progress` of loading is 0 to 1."""

    id: str
    state: str
    source: str = ""
    aliases: tuple[str, ...] = ()
    reason: str = ""
    progress: float = 0.0
    bytes: int = 0
    context_length: int = 0
    running: int = 0
    default: bool = False


class RequestPart(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits or runs.

    `conversation` names an entry of `Status.conversations`. `first_token` is the time to the first
    token, 0 before it; `rate` is decode tokens a second; `cache_note` says in words why a prefix
    was not found, `wait_note` why it is still queued. `text` is the end of the answer so far, only
    there with `admin.show_text`.
    """

    id: str
    dialect: str
    model: str
    asked_model: str = ""
    client: str = ""
    agent: str = ""
    """The client's program, from its User-Agent."""
    conversation: str = ""
    phase: Phase | Literal["decode"]
    stream: bool = False
    age: float = 0.0
    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    first_token: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    completion_tokens: int = 0
    max_tokens: int = 0
    rate: float = 0.0
    cache_note: str = ""
    wait_note: str = ""
    text: str = ""


class ConversationPart(msgspec.Struct, frozen=True, kw_only=True):
    """Turns that belong together, whatever dialect they came in.

    `kind` says by what they were recognised: a conversation of the Conversations API, a chain of
    responses, a session id that the client sent, or a prompt that begins as an earlier one did.
    """

    id: str
    kind: Literal["conversation", "responses", "session", "prefix"]
    dialect: str
    model: str
    client: str = ""
    agent: str = ""
    turns: int = 0
    running: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    idle: float = 0.0
    """Time since its last activity."""
    rate: float = 0.0
    text: str = ""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Averages over a window: prompt tokens really computed, tokens in (cached ones too), tokens
    generated, and requests and errors a minute."""

    prefill: float = 0.0
    prompt: float = 0.0
    decode: float = 0.0
    requests_per_minute: float = 0.0
    errors_per_minute: float = 0.0


class PrefixPart(msgspec.Struct, frozen=True, kw_only=True):
    """The prefix cache: what it holds, and prompts and tokens that it answered."""

    entries: int = 0
    bytes: int = 0
    limit: int = 0
    hits: int = 0
    hit_tokens: int = 0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Since the server started.

    Of the `requests` that the engine accepted each ends as `finished`, `failed` or `cancelled`;
    `refused` are those that it never saw. `errors` are the failed and the refused ones.
    """

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    finished: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class StorePart(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation store, as `mlxd.history.StoreStatus` has it."""

    kind: str = ""
    path: str = ""
    bytes: int = 0
    responses: int = 0
    conversations: int = 0
    problem: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, now. `waiting` and `running` are in the order of arrival; `rates` has the
    windows "1s", "10s" and "60s"."""

    server: ServerPart
    engine: EnginePart
    models: tuple[ModelPart, ...] = ()
    max_queue: int = 0
    waiting: tuple[RequestPart, ...] = ()
    running: tuple[RequestPart, ...] = ()
    conversations: tuple[ConversationPart, ...] = ()
    rates: dict[str, Rates] = {}
    prefixes: PrefixPart = PrefixPart()
    totals: Totals = Totals()
    store: StorePart = StorePart()


class Second(msgspec.Struct, frozen=True, array_like=True):
    """One second of the throughput chart: when (since 1970), and tokens decoded and prefilled."""

    at: float
    decode: float
    prefill: float


class History(msgspec.Struct, frozen=True):
    """The last minutes second by second, oldest first: `/admin/history`."""

    seconds: tuple[Second, ...] = ()


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: the event `activity` of `/admin/events`.

    `kind` is `request.queued`, `request.prefill`, `request.decode`, `request.finished`,
    `request.failed`, `request.cancelled`, `request.refused`, `engine.<state>`, `model.<state>` or
    `log`. `level` is that of a log line.
    """

    kind: str
    at: float
    message: str
    request: str = ""
    model: str = ""
    level: Literal["info", "warning", "error"] = "info"
