"""Where the readers of all notations put what they find: calls of offered tools, and remarks."""

import secrets
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import NamedTuple

from mlxd.engine.notations.reading.scanner import NONE, Markers, Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import ToolSchema
from mlxd.engine.notations.reading.strings import Outcome
from mlxd.engine.notations.reading.values import ValueCopy
from mlxd.messages import Tool

MAX_HEAD = 512
"""Characters that the opening of a call may have before it is taken for text."""

NOT_OFFERED = "the tool was not offered"
NOT_WHOLE = "it ends in the middle"
NOT_VALID = "tool call arguments are not valid JSON"
SURPLUS_BRACKETS = "tool call repaired: closing brackets that close nothing"

CONTROL = ("<|", "<｜")
"""What control tokens begin with, which no text has."""
_CLOSING = "}] \t\r\n"
_MAX_ID = 64
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:")


class CallOpened(NamedTuple):
    """A call of an offered tool begins."""

    id: str
    name: str


class CallText(NamedTuple):
    """More of the open call's arguments."""

    text: str


class CallClosed(NamedTuple):
    """The open call is over."""


CallItem = CallOpened | CallText | CallClosed


class NotACall(Exception):
    """What was taken since the scanner's mark is text after all.

    `remark` is false where no markup of a call had been seen.
    """

    def __init__(self, reason: str, *, remark: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remark = remark


class Broken(Exception):
    """The open call can't be read on; what was taken since the mark belongs to it."""


class Calls:
    """Collects the calls of one answer; knows which tools are offered."""

    def __init__(
        self, tools: Sequence[Tool], scan: Scanner, *, used_ids: Iterable[str] = ()
    ) -> None:
        self._tools = {tool.name: tool for tool in tools if tool.name}
        self._names = sorted(self._tools)
        self._schemas: dict[str, ToolSchema] = {}
        self._scan = scan
        self._ids = set(used_ids)
        self._items: list[CallItem] = []
        self._text: list[str] = []
        self._remarks: Counter[str] = Counter()
        self._open: Tool | None = None
        self.openers = NONE
        """What begins calls in the answer's notation."""
        self.count = 0
        """Calls that were opened."""
        self.closed: list[tuple[str, str]] = []
        """The calls that are whole: names and arguments."""
        self._arguments: list[str] = []

    def fork(self, scan: Scanner | None = None) -> "Calls":
        """Others of the same answer, which do not count unless they are joined to these."""
        other = copy(self)
        other._scan = scan or self._scan
        other._items, other._text, other._open = [], [], None
        other._arguments, other.closed = [], []
        other._ids, other._remarks = set(self._ids), Counter()
        return other

    def join(self, other: "Calls") -> None:
        """Count the calls of a fork, whose items were drained; none came here since it was made."""
        self._ids, self.count = other._ids, other.count
        self.closed += other.closed
        self._remarks += other._remarks

    @property
    def offered(self) -> bool:
        """Whether any tool may be called."""
        return bool(self._tools)

    @property
    def is_open(self) -> bool:
        """Whether a call was opened and not closed."""
        return self._open is not None

    @property
    def schema(self) -> ToolSchema:
        """The schema of the open call's tool."""
        if self._open is None:
            raise ValueError("no call is open")
        name = self._open.name
        if name not in self._schemas:
            self._schemas[name] = ToolSchema(self._open.parameters)
        return self._schemas[name]

    def may_be(self, beginning: str) -> bool:
        """Whether an offered tool's name begins so."""
        at = bisect_left(self._names, beginning)
        return at < len(self._names) and self._names[at].startswith(beginning)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all offered tools."""
        return tuple(self._names)

    def offers(self, name: str) -> bool:
        """Whether a tool of this name may be called."""
        return name in self._tools

    def open(self, name: str, own_id: str = "") -> None:
        """A call begins; all that was taken before belongs to it. Raises `NotACall`."""
        if name not in self._tools:
            raise NotACall(NOT_OFFERED)
        self._scan.forget()
        self._open = self._tools[name]
        self.count += 1
        self._items.append(CallOpened(self._id(own_id), name))

    def add(self, text: str) -> None:
        """More of the arguments' JSON."""
        if text:
            self._text.append(text)

    def close(self) -> None:
        """The open call is whole; what is taken from here on may be text again."""
        self._flush()
        if self._open is not None:
            self.closed.append((self._open.name, "".join(self._arguments)))
        self._arguments.clear()
        self._items.append(CallClosed())
        self._open = None
        self._scan.mark()

    def cut(self) -> None:
        """The text ended in the middle of the open call; what is left of it is dropped."""
        self._scan.rest()
        self.remark("a tool call ends in the middle")
        self.close()

    def remark(self, text: str) -> None:
        """Something worth a line in the log; says nothing of the content."""
        self._remarks[text] += 1

    def repaired(self, repairs: Iterable[str]) -> None:
        """Say what was repaired in the arguments."""
        for each in repairs:
            self.remark(f"tool call repaired: {each}")

    def notes(self) -> tuple[str, ...]:
        """The remarks, each once, with how often when that is more."""
        return tuple(
            text if count == 1 else f"{text} ({count} times)"
            for text, count in self._remarks.items()
        )

    @property
    def found(self) -> bool:
        """Whether there is something to drain."""
        return bool(self._items or self._text)

    def drain(self) -> list[CallItem]:
        """What was found since the last time."""
        self._flush()
        items, self._items = self._items, []
        return items

    def _flush(self) -> None:
        if self._text:
            text = "".join(self._text)
            self._items.append(CallText(text))
            self._arguments.append(text)
            self._text.clear()

    def _id(self, own: str) -> str:
        """The model's own id when it can serve as one, else a new one."""
        if not (0 < len(own) <= _MAX_ID and _ID_CHARACTERS.issuperset(own)) or own in self._ids:
            own = "call_" + secrets.token_hex(12)
        self._ids.add(own)
        return own


CallReader = Callable[[Scanner, Calls], Steps[None]]
"""Reads calls from behind an opening marker.

What it has taken since the scanner's mark when it returns, or raises `NotACall`, is text; marking
anew drops it.
"""


def offered_name(scan: Scanner, calls: Calls, ends: str) -> Steps[str]:
    """Take an offered tool's name up to one of the characters `ends`; raises `NotACall`.

    Stops at the first character that no offered name has there.
    """
    name = ""
    while (char := scan.char or (yield from scan.wait())) not in tuple(ends):
        if not char:
            break
        if not calls.may_be(name + char):
            raise NotACall(NOT_OFFERED)
        name += scan.take(1)
    if not calls.offers(name):
        raise NotACall(NOT_OFFERED if scan.char else NOT_WHOLE)
    return name


def next_tag(scan: Scanner, calls: Calls, tags: Markers, *, surplus: str = "") -> Steps[str]:
    """Take one of `tags` inside the open call; empty where the text ends.

    Marks the scanner first. Raises `Broken` where something else comes than white space; closing
    tags `surplus` that close nothing do no harm.
    """
    scan.mark()
    between: list[str] = []
    tag = yield from scan.pour(tags, between.append, take_marker=False)
    text = "".join(between)
    if surplus and surplus in text:
        calls.remark("tool call repaired: a closing tag that closes nothing")
        text = text.replace(surplus, "")
    if text.strip() and (tag or scan.complete):
        raise Broken
    return scan.take(len(tag))


def spill(scan: Scanner, calls: Calls, stops: Markers, *, inside: bool = False) -> Steps[str]:
    """Close the open call with all text up to a stop as it is; returns the stop.

    What was taken since a mark belongs to that text. With `inside`, a stop may stand in it: one
    that text and another stop follow before the next call. Without stops the next call ends it.
    """
    calls.remark(NOT_VALID)
    calls.add(scan.since_mark())
    if not stops.texts:
        yield from scan.pour(calls.openers, calls.add, take_marker=False)
        calls.close()
        return ""
    marker = yield from scan.pour(stops, calls.add)
    while inside and marker:
        more = yield from before_stop(scan, calls, stops)
        begin = more.lstrip()[:1]
        if not begin or begin in "{[":
            # Another call may follow without an opening of its own.
            scan.back(more)
            break
        calls.add(marker + more)
        marker = yield from scan.accept_any(stops)
    calls.close()
    return marker


def before_stop(scan: Scanner, calls: Calls, stops: Markers) -> Steps[str]:
    """Take what comes before a stop, if one comes before the next call; else nothing."""
    if not stops.texts:
        return ""
    parts: list[str] = []
    ends = markers_of(*stops.texts, *calls.openers.texts)
    marker = yield from scan.pour(ends, parts.append, take_marker=False)
    text = "".join(parts)
    if marker in stops.texts:
        return text
    scan.back(text)
    return ""


def copied(
    scan: Scanner, calls: Calls, value: ValueCopy, stops: Markers, *, seams: Markers = NONE
) -> Steps[Outcome]:
    """Copy arguments, with a fence before one of `seams` or a stop with the next call behind it.

    A string whose end got lost would take the next call in.
    """
    control = (opener for opener in calls.openers.texts if opener.startswith(CONTROL))
    seams = markers_of(
        *seams.texts,
        *(opener + '{"' for opener in control),
        *(
            stop + between + opener
            for stop in stops.texts
            for opener in calls.openers.texts
            for between in (("\n", "") if stop.startswith(CONTROL) else ("\n",))
        ),
    )
    # Inside thinking there is a fence already, and a draft does no harm.
    if not seams.texts or scan.at_fence is not None:
        return (yield from value.copy())
    scan.fence(seams)
    outcome = yield from value.copy(crosses=True)
    reached = False
    if scan.at_fence is not None:
        reached = scan.at_fence and not scan.char
        scan.unfence()
    return Outcome.BROKEN if reached and outcome is Outcome.CUT else outcome


def json_arguments(
    scan: Scanner,
    calls: Calls,
    stops: Markers = NONE,
    *,
    seams: Markers = NONE,
    next_call: Callable[[str], bool] | None = None,
) -> Steps[str]:
    """Read a JSON object as the open call's arguments, up to one of `seams`, and close the call.

    Takes the stops that follow and returns the last of them, empty when there is none. `next_call`
    is as for `ValueCopy`.
    """
    yield from scan.space()
    if scan.char != "{":
        return (yield from _no_object(scan, calls, stops))
    value = ValueCopy(scan, calls.add, stops=stops, next_call=next_call)
    match (yield from copied(scan, calls, value, stops, seams=seams)):
        case Outcome.CUT:
            calls.cut()
            return ""
        case Outcome.BROKEN if value.followed:
            calls.remark(NOT_VALID)
            calls.close()
            return ""
        case Outcome.BROKEN:
            return (yield from _spill_json(scan, calls, stops))
    calls.repaired(value.repairs)
    scan.mark()
    surplus = yield from before_stop(scan, calls, stops)
    if surplus.strip(_CLOSING):
        return (yield from _spill_json(scan, calls, stops))
    if surplus.strip():
        calls.remark(SURPLUS_BRACKETS)
    scan.mark()
    calls.close()
    return (yield from all_stops(scan, stops))


def _spill_json(scan: Scanner, calls: Calls, stops: Markers) -> Steps[str]:
    first = yield from spill(scan, calls, stops, inside=True)
    return (yield from all_stops(scan, stops)) or first


def _no_object(scan: Scanner, calls: Calls, stops: Markers) -> Steps[str]:
    ended = not scan.char
    if ended and not scan.complete:
        calls.cut()
        return ""
    if ended or (yield from scan.at_any(stops)):
        calls.add("{}")
        calls.close()
        return (yield from all_stops(scan, stops))
    return (yield from _spill_json(scan, calls, stops))


def all_stops(scan: Scanner, stops: Markers) -> Steps[str]:
    """Take the stops that follow, also repeated ones, and white space; returns the last stop."""
    last = ""
    while True:
        yield from scan.space()
        marker = yield from scan.accept_any(stops)
        if not marker:
            return last
        scan.mark()
        last = marker
