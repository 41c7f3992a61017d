"""How the server, its engine and its store are: the JSON of `/admin/status` and `/admin/events`.

Each part is made where its figures are and passed on whole, so that a figure is named here, where
it is computed, and where it is shown. Times are in seconds, rates in tokens a second, and sizes in
bytes, unless a name says otherwise.
"""

from typing import Literal

import msgspec

from mlxd.events import CacheNote, Phase, Usage

ModelState = Literal["unloaded", "loading", "loaded", "failed"]
EngineState = Literal["starting", "ready", "restarting", "failed", "stopping", "stopped"]
ConversationKind = Literal["conversation", "responses", "session", "prefix"]


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
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
    dialects: dict[str, str] = {}
    """The enabled dialects, and the short title of each."""
    memory: int = 0
    """Resident memory of the server process."""
    connections: int = 0


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration allows: requests in the batch and in the queue."""

    max_batch: int = 0
    max_queue: int = 0


class Restart(msgspec.Struct, frozen=True):
    """The engine process was replaced `at` (since 1970), and why."""

    at: float
    reason: str


class AnswerFormat(msgspec.Struct, frozen=True):
    """How a model's answers are read, and how that was found out when it was loaded.

    `tools` says who describes tools to it: its `template`, or `words` that mlxd adds, because the
    template has no place for them or what it writes of calls can't be read back. `tool_format` and
    `reasoning_tags` were found in the `configuration`, the `template`, the `vocabulary`, by the
    `tokenizer`'s own word, in the `notation`, or by `reading` what the template writes. `problem`
    is what people should know, `features` what the chat template takes.
    """

    tools: Literal["template", "words"] = "template"
    tool_format: str = ""
    tool_format_from: str = ""
    reasoning_tags: tuple[str, ...] = ()
    reasoning_tags_from: str = ""
    problem: str = ""
    features: tuple[str, ...] = ()


class ModelInfo(msgspec.Struct, frozen=True):
    """A configured model as callers may know it.

    `context_length` and `bytes` (of weights in memory) are 0 until the model was loaded once;
    `reason` says why the state is `failed`, `answers` how its text is read. While it loads,
    `progress` goes from 0 to 1. `unbatched` says why its requests are served one at a time, as far
    as it was loaded; it is empty where they are batched. `running` (requests) and `default` are
    known in `/admin/status` only.
    """

    id: str
    aliases: tuple[str, ...] = ()
    source: str = ""
    state: ModelState = "unloaded"
    context_length: int = 0
    max_tokens: int = 0
    bytes: int = 0
    reason: str = ""
    progress: float = 0.0
    unbatched: str = ""
    running: int = 0
    default: bool = False
    answers: AnswerFormat | None = None


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's files say of it, whether it is loaded or not; what they don't is empty or 0.

    `quantization` is as in `4bit`, or the type of the weights; `modified` is since 1970; `digest`
    (64 hex digits) is another once a file has changed. `thinks` says that its chat template has
    thinking, as far as its text shows it.
    """

    family: str = ""
    parameters: int = 0
    quantization: str = ""
    context_length: int = 0
    embedding_length: int = 0
    bytes: int = 0
    modified: float = 0.0
    digest: str = ""
    thinks: bool = False


class RowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine process counts of one request; it comes here as it was computed there.

    `prefilled_tokens` are the prompt tokens in the KV cache so far, those that were found there
    among them. `cache_note` says why no more were, where more could have been.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    completion_tokens: int = 0
    cache_note: CacheNote | None = None

    @property
    def usage(self) -> Usage:
        """The part of it that callers are told."""
        return Usage(
            prompt=self.prompt_tokens,
            cached=self.cached_tokens,
            completion=self.completion_tokens,
            cache_note=self.cache_note,
        )


class RequestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits or runs.

    `queued`, `prefill` and `decode` are how long it was in each phase so far, `first_token` is the
    time from its arrival to its first token, 0 before it. `rate` is decode tokens a second;
    `max_tokens` is 0 where the request leaves it to the model. `wait_note` says in words why it is
    still queued, as far as that is known.

    In `/admin/status` alone: `conversation` names an entry of `Status.conversations`; `text` is the
    end of the answer so far, only there with `admin.show_text`.
    """

    id: str
    model: str
    phase: Phase | Literal["decode"]
    dialect: str = ""
    requested_model: str = ""
    client: str = ""
    agent: str = ""
    """The client's program, from its User-Agent."""
    stream: bool = False
    max_tokens: int = 0
    figures: RowFigures = RowFigures()
    age: float = 0.0
    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    first_token: float = 0.0
    rate: float = 0.0
    wait_note: str = ""
    conversation: str = ""
    text: str = ""


class PrefixDiskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Prefixes on the disk; a `limit` of 0 says that none are kept.

    `hits` are prompts whose beginning was read from there, with `hit_tokens` that were not in
    memory. `written_today` are bytes, of a day in UTC. `dropped` files were not written, `damaged`
    ones were found so and removed. `problem` says why nothing is written, in words.
    """

    limit: int = 0
    bytes: int = 0
    entries: int = 0
    hits: int = 0
    hit_tokens: int = 0
    written_today: int = 0
    dropped: int = 0
    damaged: int = 0
    problem: str = ""


class EngineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine process counts of itself: memory, and what prompts found of prefixes.

    `prefix_entries` are prompts that no other goes on from; `prefix_limit` is the most bytes that
    prefixes may take now.
    """

    memory_used: int = 0
    memory_peak: int = 0
    prefix_entries: int = 0
    prefix_bytes: int = 0
    prefix_limit: int = 0
    prefix_hits: int = 0
    prefix_hit_tokens: int = 0
    prefix_disk: PrefixDiskFigures = PrefixDiskFigures()


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What an API key has of the engine; `name` is its table's, or else its short hash.

    `tokens` were computed for it since the server started, of prompts and of answers, and `share`
    is its part, 0 to 1, of those of all keys in about the last minute.
    """

    name: str
    weight: float = 1.0
    tokens: int = 0
    share: float = 0.0
    running: int = 0
    waiting: int = 0


class EngineStatus(msgspec.Struct, frozen=True):
    """The truth about the engine now; `requests` and `models` in their order of arrival.

    `idle_seconds` is the time since the last sign of progress while work was queued (0 when idle),
    `step_seconds` the median of the last decode steps.
    """

    state: EngineState
    reason: str = ""
    restarts: int = 0
    pid: int = 0
    device: str = ""
    blas: str = ""
    uptime: float = 0.0
    idle_seconds: float = 0.0
    step_seconds: float = 0.0
    memory_limit: int = 0
    figures: EngineFigures = EngineFigures()
    models: tuple[ModelInfo, ...] = ()
    requests: tuple[RequestStatus, ...] = ()
    keys: tuple[KeyStatus, ...] = ()
    last_restarts: tuple[Restart, ...] = ()


class StoreStatus(msgspec.Struct, frozen=True):
    """How the store is; `problem` says what is wrong in a sentence, empty when nothing is."""

    kind: Literal["none", "sqlite", "memory"] = "none"
    path: str = ""
    bytes: int = 0
    responses: int = 0
    conversations: int = 0
    archived: int = 0
    problem: str = ""


class ConversationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Turns that belong together, whatever dialect they came in.

    `kind` says by what they were recognised: a conversation of the Conversations API, a chain of
    responses, a session id that the client sent, or a prompt that begins as an earlier one did.
    """

    id: str
    kind: ConversationKind
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


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, now; `rates` has the windows "1s", "10s" and "60s"."""

    server: ServerStatus
    engine: EngineStatus
    capacity: Capacity = Capacity()
    conversations: tuple[ConversationStatus, ...] = ()
    rates: dict[str, Rates] = {}
    totals: Totals = Totals()
    store: StoreStatus = StoreStatus()

    @property
    def waiting(self) -> tuple[RequestStatus, ...]:
        """Requests in the queue, oldest first."""
        return tuple(each for each in self.engine.requests if each.phase == "queued")

    @property
    def running(self) -> tuple[RequestStatus, ...]:
        """Requests in prefill or decode, oldest first."""
        return tuple(each for each in self.engine.requests if each.phase != "queued")


class Second(msgspec.Struct, frozen=True, array_like=True):
    """One second of the throughput chart: when (since 1970), and tokens decoded and prefilled."""

    at: float
    decode: float
    prefill: float


class ThroughputHistory(msgspec.Struct, frozen=True):
    """The last minutes second by second, oldest first: `/admin/history`."""

    seconds: tuple[Second, ...] = ()


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: the event `activity` of `/admin/events`.

    `kind` is `request.queued`, `request.prefill`, `request.decode`, `request.finished`,
    `request.failed`, `request.cancelled`, `request.refused`, `engine.<state>`, `model.<state>` or
    `log`. `level` is that of a log line; `last` how a request stood when it ended.
    """

    kind: str
    at: float
    message: str
    request: str = ""
    model: str = ""
    level: Literal["info", "warning", "error"] = "info"
    last: RequestStatus | None = None
