"""Decoded text to spans of text and reasoning, and the calls between them.

What may turn out to be a marker is held back; cutting the text anywhere gives the same spans.

Models draft calls while they think, and some forget to close their thinking before a call that they
mean. So a call inside thinking is held with all that follows: it is meant if the thinking never
closes, or if nothing but white space follows its close, and else it is thinking. Thinking ends at
its first closing tag, also in the middle of a call: a draft may break off, and running one by
mistake is worse than losing a call that has the tag in its arguments.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, assert_never

from mlxd.engine.interface import Markup
from mlxd.engine.notations.reading.calls import (
    CONTROL,
    CallItem,
    CallReader,
    Calls,
    NotACall,
    all_stops,
    json_arguments,
)
from mlxd.engine.notations.reading.headers import Headers, MessageRoute, Place
from mlxd.engine.notations.reading.scanner import SPACE, Scanner, Steps, markers_of
from mlxd.engine.notations.table import read_as
from mlxd.engine.parsing.marker_table import Edge, State, build_table

MAX_HEADER = 512
"""Characters that a message's header may have before it is taken for text."""

Channel = Literal["text", "reasoning", "tag", "answer", "markup"]

_CHANNELS: Mapping[Place, Channel] = {
    "text": "text",
    "reasoning": "reasoning",
    "plain": "text",
    "aside": "markup",
}


class Span(NamedTuple):
    """A stretch of the text as it was written; `end` counts the characters up to its end.

    Channel `tag` are the tags of reasoning; `answer` begins the answer in the middle of reasoning;
    `markup` is everything else that is no content.
    """

    channel: Channel
    text: str
    end: int


class MessageEnd(NamedTuple):
    """A message is over and another may follow."""


Item = Span | CallItem | MessageEnd


class Thought(NamedTuple):
    """A call inside thinking with what was taken behind it; `text` is all of it as written."""

    items: tuple[Item, ...]
    text: str
    end: int


class Splitter:
    """Splits one answer; feed it whatever arrived, then finish it."""

    def __init__(
        self,
        markup: Markup,
        scan: Scanner,
        calls: Calls,
        *,
        opens_reasoning: bool = False,
        must_call: bool = False,
    ) -> None:
        markup = markup.of_answer(opens_reasoning=opens_reasoning)
        self._must_call = must_call
        self._scan = scan
        self._calls = calls
        notation = read_as(markup.tool_format, markup.also_read)
        self._notation = notation if calls.offered else None
        self._lead = notation.lead
        self._headers = headers = notation.headers
        calls.openers = markers_of(*notation.starts, *(headers.opens if headers else ()))
        self._closings = markers_of(*notation.closings)
        self._table = build_table(markup, self._notation)
        self._markers = {state: markers_of(*edges) for state, edges in self._table.items()}
        self._ways_out = markers_of(
            *(
                marker
                for marker, edge in self._table["reasoning"].items()
                if edge.role in ("close", "header", "answer") or edge == Edge("tag", "text")
            )
        )
        self._items: list[Item] = []
        self._held: list[Item | Thought] = []
        """What waits, from a call inside thinking on."""
        self._drafts = calls
        """Where calls inside thinking are put."""
        self._closed = False
        """The thinking that holds the first held call was closed."""
        self._fresh = True
        """Nothing but white space came since the state was entered."""
        self._in_line = False
        """Text stands before, in the same line."""
        state: State = "start" if self._headers else "text"
        if opens_reasoning:
            state = "reasoning"
        self._steps = self._run(state)

    @property
    def has_headers(self) -> bool:
        """Whether answers are made of messages."""
        return self._headers is not None

    def feed(self, text: str) -> list[Item]:
        """The items that `text` completes."""
        if text:
            self._scan.feed(text)
        return self._advance()

    def finish(self, *, complete: bool, failed: bool = False) -> list[Item]:
        """The last items; `complete` says that the model itself ended the answer."""
        self._scan.end(complete=complete)
        items = self._advance()
        self._settle(meant=(complete or self._closed) and not failed)
        return items + self._drained()

    def _advance(self) -> list[Item]:
        next(self._steps, None)
        self._take_calls()
        return self._drained()

    def _drained(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _take_calls(self) -> None:
        if self._calls.found:
            self._items += self._calls.drain()

    def _put(self, item: Item) -> None:
        (self._held if self._held else self._items).append(item)

    def _settle(self, *, meant: bool) -> None:
        """Let go what is held: its calls as such if they are `meant`, else as thinking."""
        if not self._held:
            return
        for item in self._held:
            if not isinstance(item, Thought):
                self._items.append(item)
            elif meant:
                self._items += item.items
            else:
                self._items.append(Span("reasoning", item.text, item.end))
        if meant:
            self._calls.join(self._drafts)
        self._held, self._closed = [], False

    def _span(self, channel: Channel, text: str, after: str = "") -> None:
        """Add a span that ends where the scanner stands, or `after` before it."""
        if not text:
            return
        self._take_calls()
        if channel == "text" and self._must_call and self._scan.was_cut:
            # A grammar lets nothing but calls be written, so this is the head of one that was cut.
            channel = "markup"
        blank = not text.strip()
        if self._closed and channel in ("text", "reasoning") and not blank:
            self._settle(meant=False)
        self._put(Span(channel, text, self._scan.offset - len(after)))
        if self._fresh and not blank:
            self._fresh = False
        if line := text.rstrip(" \t"):
            self._in_line = channel == "text" and line[-1] != "\n"

    def _run(self, state: State) -> Steps[None]:
        scan = self._scan
        if state == "text" and self._lead:
            self._span("markup", (yield from scan.accept_any(markers_of(self._lead))))
        while True:
            if state == "start":
                state = yield from self._message()
                continue
            if state == "text" and self._fresh:
                yield from self._bare()
            text, marker = yield from scan.piece(self._markers[state])
            self._span(_CHANNELS[state], text, marker)
            if marker:
                thinking = state == "reasoning"
                state = yield from self._pass(state, marker)
                self._closed = self._closed or (
                    bool(self._held) and thinking and state != "reasoning"
                )
            elif not text:
                return

    def _pass(self, state: Place, marker: str) -> Steps[State]:
        """Do what `marker` says; returns the state behind it."""
        edge = self._table[state][marker]
        match edge.role:
            case "tag" | "answer" | "markup":
                self._span(edge.role, marker)
                self._fresh = True
            case "again":
                # A model may repeat the tag that its prompt ends with.
                self._span("tag" if self._fresh else "reasoning", marker)
            case "call":
                return (yield from self._call(state, marker))
            case "line":
                self._scan.back(marker[1:])
                self._span("text", marker[:1])
                self._fresh = True
            case "header":
                self._scan.mark(marker)
                return (yield from self._header(state))
            case "close":
                self._span("tag" if state == "reasoning" else "markup", marker)
                self._take_calls()
                self._put(MessageEnd())
            case _:
                assert_never(edge.role)
        return edge.to

    def _call(self, state: Place, marker: str) -> Steps[State]:
        """Read the calls behind `marker`; an answer goes on as text behind a call."""
        assert self._notation is not None, "`build_table` has calls only of a notation"
        self._scan.mark(marker)
        reader = self._notation.starts[marker]
        if state == "reasoning":
            yield from self._think_of(reader, marker)
        else:
            yield from self._read(reader, marker)
        return state

    def _drop_empty(self, marker: str) -> Steps[None]:
        """Drop what was taken if it is markup, and its end follows: a region without calls.

        Plain tags in the middle of a line are what a text says of them.
        """
        scan = self._scan
        markup = scan.since_mark()
        scan.mark(markup)
        if self._in_line and not marker.startswith(CONTROL):
            return
        for opening in self._calls.openers.texts:
            markup = markup.replace(opening, "")
        if not markup.strip(SPACE + ">"):
            yield from all_stops(scan, self._closings)

    def _read(self, reader: CallReader, marker: str = "") -> Steps[bool]:
        """Whether `reader` found a call in the text; what is none goes on as text."""
        self._settle(meant=False)
        found = yield from self._try(reader, self._calls)
        self._fresh = self._fresh or found
        if marker and not found:
            yield from self._drop_empty(marker)
        self._span("text", self._scan.since_mark())
        return found

    def _try(self, reader: CallReader, calls: Calls) -> Steps[bool]:
        before = calls.count
        try:
            yield from reader(self._scan, calls)
        except NotACall as error:
            if error.remark:
                calls.remark(f"tool markup seen, nothing parsed: {error.reason}")
        return calls.count > before

    def _think_of(self, reader: CallReader, marker: str) -> Steps[None]:
        """Read a call inside thinking, up to the end of the thinking at most."""
        scan = self._scan
        drafts = self._drafts if self._held else self._calls.fork()
        scan.record()
        scan.fence(self._ways_out)
        found = yield from self._try(reader, drafts)
        scan.unfence()
        text = marker + scan.recorded()
        rest = scan.since_mark()
        if not found:
            if not self._held:
                self._calls.join(drafts)
            self._span("reasoning", rest)
            return
        self._take_calls()
        self._drafts, self._fresh = drafts, False
        behind = Span("reasoning", rest, scan.offset)
        self._held.append(Thought((*drafts.drain(), behind), text, scan.offset))

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
        begins = self._notation.begins if self._notation else ()
        if scan.char and not at_marker and (not begins or scan.char in begins):
            # Where it is no call, what follows it is no beginning any more.
            self._fresh = yield from self._read(reader)
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

    def _header(self, state: Place) -> Steps[State]:
        """Read a header since the mark up to its end; without an end it is no header."""
        scan, headers = self._scan, self._headers
        assert headers is not None, "`build_table` has headers only of a notation with some"
        if (yield from scan.upto(headers.end, MAX_HEADER)) is None:
            self._span(_CHANNELS[state], scan.since_mark())
            return state
        header = scan.since_mark()
        if not headers.is_header(header):
            self._span(_CHANNELS[state], header)
            return state
        scan.mark(header)
        return (yield from self._route(headers, headers.route(header)))

    def _route(self, headers: Headers, route: MessageRoute) -> Steps[State]:
        scan, calls = self._scan, self._calls
        self._take_calls()
        self._put(MessageEnd())
        self._fresh = True
        if calls.offers(route.tool):
            self._settle(meant=False)
            calls.open(route.tool)
            yield from json_arguments(scan, calls, markers_of(*headers.closes))
            self._span("text", scan.since_mark())
            return "start"
        header = scan.since_mark()
        if route.tool:
            if calls.offered:
                calls.remark("tool markup seen, nothing parsed: the tool was not offered")
            # Of what it wanted to call, people can read the name and what follows.
            begin = header.index(route.tool, header.index("to="))
            end = begin + len(route.tool)
            end += header[end : end + 1] == " "
            self._span("markup", header[:begin], header[begin:])
            self._span(_CHANNELS[route.place], header[begin:end], header[end:])
            self._span("markup", header[end:])
        else:
            self._span("tag" if route.place == "reasoning" else "markup", header)
        if route.place == "aside":
            calls.remark("a message that was for nobody was dropped")
        self._fresh = not route.tool
        return route.place
