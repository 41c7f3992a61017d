"""Everything about one request, conversation or model, as lines of text."""

from collections.abc import Iterable

from mlxd.status import ConversationStatus, Lifecycle, ModelInfo, RequestStatus, RowFigures
from mlxd.tui.format import bar, count, rate, share, size, span
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Line, Tone
from mlxd.tui.top.tables import cache_note, model_tone, phase_tone, prefill_fraction

NAME = 14
"""Cells for the name of a fact."""
TEXT_LINES = 6
"""Lines of an answer's end."""

Fact = tuple[str, str, Tone]


def request_lines(
    item: RequestStatus, ended: Lifecycle | None, width: int, glyphs: Glyphs
) -> list[Line]:
    """A request with its way from the queue to the last token; `ended` is how it ended."""
    state: Fact = ("state", item.phase, phase_tone(item))
    if ended is not None:
        tone: Tone = "good" if ended.kind == "request.finished" else "bad"
        state = ("state", ended.message or ended.kind, tone)
    requested = item.requested_model if item.requested_model != item.model else ""
    requested = f" (asked for {requested})" if requested else ""
    limit = f" of at most {count(item.max_tokens)}" if item.max_tokens else ""
    facts: list[Fact] = [
        state,
        ("waits", item.wait_note, "warn"),
        ("model", item.model + requested, "plain"),
        ("dialect", f"{item.dialect}{', streamed' if item.stream else ''}", "plain"),
        ("client", " ".join(filter(None, (item.agent, item.client))), "plain"),
        ("conversation", item.conversation, "plain"),
        ("prompt", _prompt(item.figures), "plain"),
        ("cache", cache_note(item), "warn"),
        ("answer", f"{count(item.figures.completion_tokens)} tokens{limit}", "plain"),
        ("speed", f"{rate(item.rate)} tokens/s" if item.rate else "", "decode"),
        ("first token", f"after {span(item.first_token)}" if item.first_token else "", "plain"),
        ("age", span(item.age), "plain"),
    ]
    return [
        *_timeline(item, width, glyphs),
        [],
        *_facts(facts, glyphs),
        *_text(item.text, width, glyphs),
    ]


def _prompt(item: RowFigures) -> str:
    cached = share(item.cached_tokens, item.prompt_tokens)
    return (
        f"{count(item.prompt_tokens)} tokens, {count(item.cached_tokens)} cached ({cached or '0%'})"
    )


def _timeline(item: RequestStatus, width: int, glyphs: Glyphs) -> list[Line]:
    """A bar of the time so far, split into phases, and the legend under it."""
    phases: tuple[tuple[str, float, Tone, str], ...] = (
        ("queue", item.queued, "warn", glyphs.phases[0]),
        ("prefill", item.prefill, "prefill", glyphs.phases[1]),
        ("decode", item.decode, "decode", glyphs.phases[2]),
    )
    total = sum(seconds for _, seconds, _, _ in phases) or 1.0
    line: Line = []
    for _, seconds, tone, mark in phases:
        cells = round(seconds / total * width)
        line.append((mark * (max(cells, 1) if seconds else 0), tone))
    legend: Line = []
    for name, seconds, tone, mark in phases:
        legend += [(f"{mark} {name} ", tone), (f"{span(seconds)}   ", "plain")]
    if item.phase == "prefill":
        done = prefill_fraction(item)
        legend.append((f"{bar(done, 10, glyphs)} {done:.0%}", "prefill"))
    return [line, legend]


def conversation_lines(
    item: ConversationStatus, requests: Iterable[RequestStatus], width: int, glyphs: Glyphs
) -> list[Line]:
    """A conversation, and what of it waits or runs."""
    facts: list[Fact] = [
        ("known by", item.kind, "plain"),
        ("id", item.id, "plain"),
        ("model", item.model, "plain"),
        ("dialect", item.dialect, "plain"),
        ("client", " ".join(filter(None, (item.agent, item.client))), "plain"),
        ("turns", f"{item.turns}, {item.running} running", "plain"),
        ("prompts", f"{count(item.prompt_tokens)} tokens", "plain"),
        ("cached", share(item.cached_tokens, item.prompt_tokens) or "0%", "good"),
        ("answers", f"{count(item.completion_tokens)} tokens", "plain"),
        ("last active", f"{span(item.idle)} ago", "plain"),
        *(("request", f"{each.id} {each.phase}", phase_tone(each)) for each in requests),
    ]
    return [*_facts(facts, glyphs), *_text(item.text, width, glyphs)]


def model_lines(item: ModelInfo, glyphs: Glyphs) -> list[Line]:
    """A configured model."""
    loading = f" {item.progress:.0%}" if item.state == "loading" else ""
    facts: list[Fact] = [
        ("state", item.state + loading, model_tone(item)),
        ("reason", item.reason, "bad"),
        ("requests", f"one at a time: {item.unbatched}" if item.unbatched else "", "warn"),
        ("source", item.source, "plain"),
        ("aliases", ", ".join(item.aliases), "plain"),
        ("default", "yes" if item.default else "", "plain"),
        ("size", size(item.bytes) if item.bytes else "", "plain"),
        ("context", f"{item.context_length} tokens" if item.context_length else "", "plain"),
        ("running", f"{item.running}", "plain"),
    ]
    return _facts(facts, glyphs)


def event_lines(event: Lifecycle, width: int, glyphs: Glyphs) -> list[Line]:
    """An event of the log, with all of its words."""
    facts: list[Fact] = [
        ("event", event.kind, "plain"),
        ("level", event.level, "plain"),
        ("request", event.request, "plain"),
        ("model", event.model, "plain"),
    ]
    return [*_facts(facts, glyphs), [], *_wrapped(event.message, width, glyphs)]


def _facts(facts: Iterable[Fact], glyphs: Glyphs) -> list[Line]:
    """One line for each fact that is known."""
    return [
        [(f"{name:{NAME}}", "dim"), (glyphs.clean(value), tone)]
        for name, value, tone in facts
        if value
    ]


def _text(text: str, width: int, glyphs: Glyphs) -> list[Line]:
    """The end of an answer, where the server shows it."""
    return [[], *_wrapped(text, width, glyphs)[-TEXT_LINES:]] if text else []


def _wrapped(text: str, width: int, glyphs: Glyphs) -> list[Line]:
    """Lines of at most `width` characters, cut anywhere: what is shown may be code."""
    width = max(width, 1)
    lines = []
    for each in text.splitlines():
        clean = glyphs.clean(each)
        lines += [clean[at : at + width] for at in range(0, max(len(clean), 1), width)]
    return [[(line, "plain")] for line in lines]
