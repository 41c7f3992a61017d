"""Decoded text to spans of text and reasoning, and the calls between them.

The markers that lead from one state to the next are a table made of a model's `Markup`. A marker
that may still turn out to be one is held back; cutting the text anywhere gives the same spans.
"""

from typing import Literal, NamedTuple, assert_never

from mlxd.engine.interface import Markup
from mlxd.engine.notations.notation import Notation
from mlxd.engine.notations.reading.calls import (
    CallItem,
    CallReader,
    Calls,
    NotACall,
    json_arguments,
)
from mlxd.engine.notations.reading.headers import Headers, MessageRoute
from mlxd.engine.notations.reading.json_calls import BARE_BEGINS
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.table import notation_named, read_as

MAX_HEADER = 512
"""Characters that a message's header may have before it is taken for text."""

State = Literal["text", "reasoning", "start"]
"""`start` is where a message begins whose header is still to come."""
Channel = Literal["text", "reasoning", "tag", "markup"]
Role = Literal["tag", "again", "markup", "call", "header", "close"]


class Span(NamedTuple):
    """A stretch of the text as it was written; `end` counts the characters up to its end.

    Channel `tag` are the tags of reasoning, `markup` is everything else that is no content.
    """

    channel: Channel
    text: str
    end: int


class MessageEnd(NamedTuple):
    """A message is over and another may follow."""


Item = Span | CallItem | MessageEnd


class Edge(NamedTuple):
    """What a marker means in a state, and the state behind it."""

    role: Role
    to: State


Table = dict[State, dict[str, Edge]]


def build_table(markup: Markup, notation: Notation | None) -> Table:
    """The markers of each state; where two mean the same text, the first entry counts.

    `notation` is None when no call may be read.
    """
    table: Table = {"text": {}, "reasoning": {}}
    headers = notation_named(markup.tool_format).headers
    if headers is None:
        _add_tags(table, markup.reasoning)
    for start in notation.starts if notation else ():
        _add_everywhere(table, start, Edge("call", "text"))
    if headers is None:
        for control in markup.structural:
            table["text"].setdefault(control, Edge("markup", "text"))
            table["reasoning"].setdefault(control, Edge("markup", "reasoning"))
        return table
    # The headers say what the tags and control texts of such a model stand for.
    for close in headers.closes:
        _add_everywhere(table, close, Edge("close", "start"))
    for opening in headers.opens:
        _add_everywhere(table, opening, Edge("header", "start"))
    return table


def _add_tags(table: Table, pairs: tuple[tuple[str, str], ...]) -> None:
    # Two pairs may share a text: what changes the state goes before what is only out of place.
    for opening, closing in pairs:
        table["text"].setdefault(opening, Edge("tag", "reasoning"))
        table["reasoning"].setdefault(closing, Edge("tag", "text"))
    for opening, closing in pairs:
        table["text"].setdefault(closing, Edge("tag", "text"))
        table["reasoning"].setdefault(opening, Edge("again", "reasoning"))


def _add_everywhere(table: Table, marker: str, edge: Edge) -> None:
    for edges in table.values():
        edges.setdefault(marker, edge)


class Splitter:
    """Splits one answer; feed it whatever arrived, then finish it."""

    def __init__(
        self, markup: Markup, scan: Scanner, calls: Calls, *, opens_reasoning: bool = False
    ) -> None:
        self._scan = scan
        self._calls = calls
        notation = read_as(markup.tool_format, markup.also_read)
        self._notation = notation if calls.offered else None
        self._headers = notation.headers
        self._table = build_table(markup, self._notation)
        self._markers = {state: markers_of(*edges) for state, edges in self._table.items()}
        self._items: list[Item] = []
        self._fresh = True
        """Nothing but white space came since the state was entered."""
        state: State = "start" if self._headers else "text"
        if opens_reasoning and markup.reasoning:
            state = "reasoning"
        self._steps = self._run(state)

    def feed(self, text: str) -> list[Item]:
        """The items that `text` completes."""
        if text:
            self._scan.feed(text)
        return self._advance()

    def finish(self, *, complete: bool) -> list[Item]:
        """The last items; `complete` says that the model itself ended the answer."""
        self._scan.end(complete=complete)
        return self._advance()

    def _advance(self) -> list[Item]:
        next(self._steps, None)
        self._take_calls()
        items, self._items = self._items, []
        return items

    def _take_calls(self) -> None:
        if self._calls.found:
            self._items += self._calls.drain()

    def _span(self, channel: Channel, text: str, after: str = "") -> None:
        """Add a span that ends where the scanner stands, or `after` before it."""
        if not text:
            return
        self._take_calls()
        self._items.append(Span(channel, text, self._scan.offset - len(after)))
        if self._fresh and text.strip():
            self._fresh = False

    def _run(self, state: State) -> Steps[None]:
        scan = self._scan
        while True:
            if state == "start":
                state = yield from self._message()
                continue
            if state == "text" and self._fresh:
                yield from self._bare()
            text, marker = yield from scan.piece(self._markers[state])
            self._span(state, text, marker)
            if marker:
                state = yield from self._pass(state, marker)
            elif not text:
                return

    def _pass(self, state: Literal["text", "reasoning"], marker: str) -> Steps[State]:
        """Do what `marker` says; returns the state behind it."""
        edge = self._table[state][marker]
        match edge.role:
            case "tag" | "markup":
                self._span(edge.role, marker)
                self._fresh = True
            case "again":
                # A model may repeat the tag that its prompt ends with.
                self._span("tag" if self._fresh else "reasoning", marker)
            case "call":
                return (yield from self._call(state, marker))
            case "header":
                self._scan.mark(marker)
                return (yield from self._header(state))
            case "close":
                self._span("tag" if state == "reasoning" else "markup", marker)
                self._take_calls()
                self._items.append(MessageEnd())
            case _:
                assert_never(edge.role)
        return edge.to

    def _call(self, state: Literal["text", "reasoning"], marker: str) -> Steps[State]:
        """Read the calls behind `marker`; an answer goes on as text behind a call."""
        assert self._notation is not None, "`build_table` has calls only of a notation"
        self._scan.mark(marker)
        found = yield from self._read(self._notation.starts[marker], state)
        return "text" if found else state

    def _read(self, reader: CallReader, origin: Literal["text", "reasoning"]) -> Steps[bool]:
        """Whether `reader` found a call; what is none goes on as what it was found in."""
        before = self._calls.count
        try:
            yield from reader(self._scan, self._calls)
        except NotACall as error:
            if error.remark:
                self._calls.remark(f"tool markup seen, nothing parsed: {error.reason}")
        found = self._calls.count > before
        self._fresh = self._fresh or found
        self._span("text" if found else origin, self._scan.since_mark())
        return found

    def _bare(self) -> Steps[None]:
        """Read calls without markup, if the text begins with one."""
        scan = self._scan
        reader = self._notation.bare if self._notation else None
        if reader is None:
            self._fresh = False
            return
        scan.mark()
        yield from scan.space()
        at_marker = yield from scan.at_any(self._markers["text"])
        if scan.char in BARE_BEGINS and not at_marker:
            # Where it is no call, what follows it is no beginning any more.
            self._fresh = yield from self._read(reader, "text")
        else:
            self._span("text", scan.since_mark())
            self._fresh = False

    def _message(self) -> Steps[State]:
        """Read what can be the header of a message."""
        scan, headers = self._scan, self._headers
        assert headers is not None, "answers without headers never are at a message's start"
        scan.mark()
        yield from scan.space()
        if (yield from scan.at_any(markers_of(*headers.begins))):
            return (yield from self._header("text"))
        self._span("text", scan.since_mark())
        return "text"

    def _header(self, state: Literal["text", "reasoning"]) -> Steps[State]:
        """Read a header since the mark up to its end; without an end it is no header."""
        scan, headers = self._scan, self._headers
        assert headers is not None, "`build_table` has headers only of a notation with some"
        if (yield from scan.upto(headers.end, MAX_HEADER)) is None:
            self._span(state, scan.since_mark())
            return state
        header = scan.since_mark()
        if not headers.is_header(header):
            self._span(state, header)
            return state
        scan.mark(header)
        return (yield from self._route(headers, headers.route(header)))

    def _route(self, headers: Headers, route: MessageRoute) -> Steps[State]:
        scan, calls = self._scan, self._calls
        self._take_calls()
        self._items.append(MessageEnd())
        self._fresh = True
        if calls.offers(route.tool):
            calls.open(route.tool)
            yield from json_arguments(scan, calls, markers_of(*headers.closes))
            self._span("text", scan.since_mark())
            return "start"
        state: Literal["text", "reasoning"] = "reasoning" if route.reasoning else "text"
        if route.tool:
            if calls.offered:
                calls.remark("tool markup seen, nothing parsed: the tool was not offered")
            self._span(state, scan.since_mark())
        else:
            self._span("tag" if route.reasoning else "markup", scan.since_mark())
            self._fresh = True
        return state
