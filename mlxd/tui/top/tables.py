"""The dashboard's tables: what their columns show of requests, conversations, models and events."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never

from msgspec.structs import replace

from mlxd.status import ConversationStatus, Lifecycle, ModelInfo, RequestStatus, Status
from mlxd.tui.format import bar, count, fraction, rate, size, span
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Tone
from mlxd.tui.top.columns import Column, number, words

BAR = 8
"""Cells of a progress bar in a table."""
SHORT_ID = 8
LOOPBACK = ("127.0.0.1", "::1")
Titled = TypeVar("Titled", RequestStatus, ConversationStatus)
ID_PREFIXES = ("req_", "chatcmpl-", "resp_", "msg_", "conv_", "prefix-")


@dataclass(frozen=True)
class LogLine:
    """An event, with a number of its own to be told apart by."""

    number: int
    event: Lifecycle


def short_id(identity: str) -> str:
    """An id without what all of its kind begin with."""
    for prefix in ID_PREFIXES:
        identity = identity.removeprefix(prefix)
    return identity[:SHORT_ID]


def who(item: RequestStatus | ConversationStatus) -> str:
    """The client's program, and its address unless that is this machine's."""
    near = item.agent and item.client in LOOPBACK
    return " ".join(filter(None, (item.agent, "" if near else item.client)))


def with_titles(status: Status) -> Status:
    """`status` with the short titles of dialects where it has their names."""
    titles, engine = status.server.dialects, status.engine

    def titled(item: Titled) -> Titled:
        return replace(item, dialect=titles.get(item.dialect, item.dialect))

    engine = replace(engine, requests=tuple(map(titled, engine.requests)))
    conversations = tuple(map(titled, status.conversations))
    return replace(status, engine=engine, conversations=conversations)


def prefill_fraction(item: RequestStatus) -> float:
    """How much of the prompt that was not cached is computed."""
    figures, cached = item.figures, item.figures.cached_tokens
    return fraction(figures.prefilled_tokens - cached, figures.prompt_tokens - cached)


def cached_fraction(item: RequestStatus | ConversationStatus) -> float:
    """How much of the prompt came from the cache."""
    counted = item.figures if isinstance(item, RequestStatus) else item
    return fraction(counted.cached_tokens, counted.prompt_tokens)


def percent(part: float) -> str:
    """`42%`."""
    return f"{part:.0%}"


def phase_tone(item: RequestStatus) -> Tone:
    """Phases look as their bars in the chart do."""
    match item.phase:
        case "queued":
            return "warn"
        case "prefill":
            return "prefill"
        case "decode":
            return "decode"
    assert_never(item.phase)


def cached_tone(item: RequestStatus) -> Tone:
    """A prefix that was missed stands out."""
    if item.figures.cache_note:
        return "warn"
    return "good" if item.figures.cached_tokens else "dim"


def cache_note(item: RequestStatus) -> str:
    """Why more of its prompt was not cached."""
    note = item.figures.cache_note
    return note.words if note is not None else ""


def progress(glyphs: Glyphs) -> Callable[[RequestStatus], str]:
    """Of prefill, then of the tokens that the answer may have."""

    def text(item: RequestStatus) -> str:
        if item.phase == "decode" and not item.max_tokens:
            return ""
        decoded = fraction(item.figures.completion_tokens, item.max_tokens)
        done = decoded if item.phase == "decode" else prefill_fraction(item)
        return f"{bar(done, BAR, glyphs)} {done:4.0%}"

    return text


def running_columns(glyphs: Glyphs) -> Sequence[Column[RequestStatus]]:
    """Requests in prefill or decode."""
    return (
        words("id", "ID", lambda r: short_id(r.id), width=8, tone="dim", rank=3),
        words("client", "CLIENT", who, width=8, grow=3),
        words("model", "MODEL", lambda r: r.model, width=8, grow=2, rank=1),
        words("phase", "PHASE", lambda r: r.phase, width=7, tone=phase_tone),
        words("progress", "PROGRESS", progress(glyphs), width=BAR + 5, tone=phase_tone, rank=2),
        number("prompt", "PROMPT", lambda r: r.figures.prompt_tokens, count, rank=7),
        number("tokens", "TOKENS", lambda r: r.figures.completion_tokens, count),
        number("rate", "T/S", lambda r: r.rate, rate, width=5),
        number("first", "TTFT", lambda r: r.first_token, span, rank=5),
        number("cached", "CACHED", cached_fraction, percent, tone=cached_tone, rank=4, zero=True),
        number("age", "AGE", lambda r: r.age, span, rank=6, zero=True),
        words("why", "WHY NOT CACHED", cache_note, width=36, grow=3, tone="warn", rank=8),
    )


def waiting_columns() -> Sequence[Column[RequestStatus]]:
    """Requests in the queue."""
    return (
        words("id", "ID", lambda r: short_id(r.id), width=8, tone="dim", rank=1),
        number("age", "WAITS", lambda r: r.age, span, tone="warn", zero=True),
        words("dialect", "DIALECT", lambda r: r.dialect, width=9, rank=2),
        words("model", "MODEL", lambda r: r.model, width=8, grow=2),
        number("prompt", "PROMPT", lambda r: r.figures.prompt_tokens, count),
        words("client", "CLIENT", who, width=8, grow=3),
        words("why", "WHY", lambda r: r.wait_note, width=34, grow=3, tone="warn", rank=3),
    )


def conversation_columns() -> Sequence[Column[ConversationStatus]]:
    """Turns that belong together."""
    return (
        words("id", "ID", lambda c: short_id(c.id), width=8, tone="dim", rank=3),
        words("kind", "BY", lambda c: c.kind, width=12, rank=7),
        words("client", "CLIENT", who, width=8, grow=3),
        words("model", "MODEL", lambda c: c.model, width=8, grow=2, rank=4),
        number("turns", "TURNS", lambda c: c.turns, count, width=5),
        number("running", "NOW", lambda c: c.running, count, width=4, tone="decode", rank=2),
        number("prompt", "IN", lambda c: c.prompt_tokens, count, width=5, rank=5),
        number("cached", "CACHED", cached_fraction, percent, tone="good", rank=1, zero=True),
        number("tokens", "OUT", lambda c: c.completion_tokens, count, width=5, rank=6),
        number("rate", "T/S", lambda c: c.rate, rate, width=5),
        number("idle", "IDLE", lambda c: c.idle, span, zero=True),
    )


def model_state(glyphs: Glyphs) -> Callable[[ModelInfo], str]:
    """The state, with how far it is while it loads."""

    def text(item: ModelInfo) -> str:
        if item.state != "loading" or not item.progress:
            return item.state
        return f"loading {bar(item.progress, BAR, glyphs)} {item.progress:.0%}"

    return text


def model_tone(item: ModelInfo) -> Tone:
    """Ready is good, failed is bad."""
    match item.state:
        case "loaded":
            return "good"
        case "loading":
            return "accent"
        case "failed":
            return "bad"
        case "unloaded":
            return "dim"
    assert_never(item.state)


def model_columns(glyphs: Glyphs) -> Sequence[Column[ModelInfo]]:
    """The configured models."""
    return (
        words("model", "MODEL", lambda m: m.id, width=10, grow=1),
        words("state", "STATE", model_state(glyphs), width=10, grow=1, tone=model_tone),
        number("bytes", "SIZE", lambda m: m.bytes, size, width=7),
        number("context", "CONTEXT", lambda m: m.context_length, count, width=7, rank=1),
        number("running", "NOW", lambda m: m.running, count, width=4, tone="decode"),
        words("note", "NOTE", model_note, width=8, grow=2, tone="dim", rank=2),
    )


def model_note(item: ModelInfo) -> str:
    """Why it can't be used, else what is unusual about it and where it comes from."""
    parts = ("one at a time" if item.unbatched else "", "default" if item.default else "")
    return item.reason or " ".join(filter(None, (*parts, item.source)))


def clock(at: float) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def event_tone(line: LogLine) -> Tone:
    """By the level."""
    match line.event.level:
        case "info":
            return "plain"
        case "warning":
            return "warn"
        case "error":
            return "bad"
    assert_never(line.event.level)


def log_columns() -> Sequence[Column[LogLine]]:
    """What happened."""
    return (
        words("at", "TIME", lambda e: clock(e.event.at), width=8, tone="dim"),
        words("kind", "EVENT", lambda e: e.event.kind, width=17, tone="dim", rank=2),
        words("request", "ID", lambda e: short_id(e.event.request), width=8, tone="dim", rank=1),
        words("message", "MESSAGE", lambda e: e.event.message, width=10, grow=1, tone=event_tone),
    )
