"""The text of one answer as well-formed blocks: the only place block indices are given out.

White space: a block of nothing but white space next to reasoning or calls is not opened; white
space before a call is dropped, and so is, behind a call or reasoning, what comes up to the last
line break before the text. All other text is passed on as it is.
"""

from collections.abc import Iterable
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from mlxd.engine.interface import Markup
from mlxd.engine.notations.reading.calls import CallClosed, CallOpened, Calls, CallText
from mlxd.engine.notations.reading.scanner import SPACE, Scanner
from mlxd.engine.notations.table import NOTATIONS
from mlxd.engine.parsing.markers import Item, MessageEnd, Span, Splitter
from mlxd.engine.parsing.token_alignment import Attribution
from mlxd.errors import MlxdError
from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    FinishReason,
    Timings,
    TokenLogprob,
    Usage,
)
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    NamedTool,
    NoTools,
    OutputPart,
    Reasoning,
    ReasoningMode,
    RequiredTools,
    Text,
    TextOutput,
    Tool,
    ToolCall,
)

UNTIMED = Timings()
_LEFT_OUT = "a call was left out: none may be made"
_DROPPED = "the model went on after its call; parallel calls are off, so the rest was dropped"


def callable_tools(request: GenerateRequest) -> tuple[Tool, ...]:
    """The tools that the model may call in this answer."""
    match request.tool_choice:
        case NoTools():
            return ()
        case NamedTool(name=name):
            return tuple(tool for tool in request.tools if tool.name == name)
        case AllowedTools(names=names):
            return tuple(tool for tool in request.tools if tool.name in names)
        case AutoTools() | RequiredTools():
            return request.tools
        case _:
            assert_never(request.tool_choice)


def _readable_tools(request: GenerateRequest) -> tuple[Tool, ...]:
    """The tools of which a call in this answer is no text.

    Where none may be called, a call of one is left out: nobody wants to read its markup. An answer
    of a form of its own may be what a call without markup looks like.
    """
    if isinstance(request.tool_choice, NoTools) and isinstance(request.output, TextOutput):
        return request.tools
    return callable_tools(request)


def must_call(request: GenerateRequest) -> bool:
    """Whether the answer can be nothing but calls."""
    choice = request.tool_choice
    required = isinstance(choice, AllowedTools) and choice.required
    return required or isinstance(choice, RequiredTools | NamedTool)


def writes_call(
    text: str, markup: Markup, request: GenerateRequest, *, opens_reasoning: bool
) -> bool:
    """Whether an answer that begins with `text` is in the middle of a tool call."""
    scan = Scanner()
    calls = Calls(callable_tools(request), scan)
    Splitter(markup, scan, calls, opens_reasoning=opens_reasoning).feed(text)
    return calls.is_open


class BlockBuilder:
    """Turns the engine's text of one answer into blocks, and its end into a terminal event."""

    def __init__(
        self,
        markup: Markup,
        request: GenerateRequest,
        *,
        opens_reasoning: bool,
        mode: ReasoningMode,
    ) -> None:
        markup = markup.of_answer(opens_reasoning=opens_reasoning)
        scan = Scanner()
        parts = (part for message in request.messages for part in message.parts)
        used = (part.id for part in parts if isinstance(part, ToolCall))
        self._calls = Calls(_readable_tools(request), scan, used_ids=used)
        self._leaves_out = not callable_tools(request)
        if markup.tool_format is not None and markup.tool_format not in NOTATIONS:
            self._calls.remark("the model's tool format is not known")
        self._splitter = Splitter(
            markup,
            scan,
            self._calls,
            opens_reasoning=opens_reasoning,
            must_call=must_call(request),
        )
        self._single = not request.parallel_tools
        self._went_on = False
        """The model wrote more than the only call it may make."""
        self._layout = _Layout(
            mode=mode,
            before_calls=self._calls.offered,
            opened=opens_reasoning,
            tags=markup.reasoning[0] if markup.reasoning else ("", ""),
        )

    @property
    def reasoning_tokens(self) -> int:
        """Tokens whose text fell into reasoning, whether it is shown or not."""
        return self._layout.reasoning_tokens

    @property
    def complete(self) -> bool:
        """Whether all that may still come will be dropped."""
        blocks = self._layout.blocks
        return self._single and blocks.calls > 0 and not blocks.is_open(ToolCall)

    def text(
        self, text: str, *, tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> list[Event]:
        """The events of final text from the engine."""
        self._layout.attribution.add(text, tokens, logprobs)
        self._add(self._splitter.feed(text))
        return self._layout.blocks.drain()

    def finish(
        self,
        reason: FinishReason,
        *,
        stop_sequence: str | None,
        usage: Usage,
        timings: Timings,
        repetition: bool = False,
    ) -> list[Event]:
        """The last events of an answer that ended; a call turns `stop` into `tool_calls`.

        So it does with `length` where it was whole and all that came after it was dropped.
        """
        over = reason == "stop" or (reason == "length" and self.complete)
        self._end(complete=reason == "stop")
        called = over and self._layout.blocks.calls > 0
        finished = Finished(
            reason="tool_calls" if called else reason,
            usage=self._counted(usage),
            timings=timings,
            stop_sequence=stop_sequence,
            notes=self._calls.notes() + ((_DROPPED,) if self._went_on else ()),
            repetition=repetition and not called,
        )
        return [*self._layout.blocks.drain(), finished]

    def fail(self, error: MlxdError, usage: Usage, timings: Timings = UNTIMED) -> list[Event]:
        """The last events of an answer that will not become whole."""
        self._end(complete=False, failed=True)
        failed = Failed(error.report(), self._counted(usage), timings)
        return [*self._layout.blocks.drain(), failed]

    def _counted(self, usage: Usage) -> Usage:
        return replace(usage, reasoning=min(self.reasoning_tokens, usage.completion))

    def _end(self, *, complete: bool, failed: bool = False) -> None:
        self._add(self._splitter.finish(complete=complete, failed=failed))
        self._layout.end()

    def _add(self, items: Iterable[Item]) -> None:
        for item in items:
            if self._leaves_out and isinstance(item, CallOpened | CallText | CallClosed):
                if isinstance(item, CallOpened):
                    self._calls.remark(_LEFT_OUT)
                    self._layout.leave_out()
            elif not self.complete:
                self._layout.add(item)
            elif isinstance(item, CallOpened) or (isinstance(item, Span) and item.text.strip()):
                self._went_on = True


class _HeldText(NamedTuple):
    """Text, mostly white space, that waits for what follows it."""

    text: str
    logprobs: tuple[TokenLogprob, ...]


class _Layout:
    """Decides what of the answer's items stands in which block."""

    def __init__(
        self, *, mode: ReasoningMode, before_calls: bool, opened: bool, tags: tuple[str, str]
    ) -> None:
        self.blocks = _Blocks()
        self.attribution = Attribution()
        self.reasoning_tokens = 0
        self._mode = mode
        self._before_calls = before_calls
        # The prompt holds this tag, but whoever reads the text alone has to see it.
        self._missing_tag = tags[0] if opened and mode == "inline" else ""
        self._closing = tags[1]
        self._held: list[_HeldText] = []
        self._behind = opened and bool(tags[0]) and mode != "inline"
        """Reasoning or a call came before, and no text since."""

    def add(self, item: Item) -> None:
        """Take the next item."""
        match item:
            case Span():
                self._span(item, item.end - len(item.text))
            case CallOpened(id=call_id, name=name):
                self._held.clear()
                self.blocks.open(ToolCall(call_id, name, ""))
            case CallText(text=text):
                self.blocks.add(text)
            case CallClosed():
                self._behind = True
                self.blocks.close()
            case MessageEnd():
                self._settle()
                self.blocks.close()
            case _:
                assert_never(item)

    def leave_out(self) -> None:
        """A call stood here that nobody is to see."""
        self._held.clear()
        self._behind = True
        self.blocks.close()

    def end(self) -> None:
        """The answer is over."""
        if not self.blocks.count and not self._behind and self._held:
            self._release()
        self._settle()
        self.blocks.close()

    def _span(self, span: Span, start: int) -> None:
        inline = self._mode == "inline"
        if inline and span.channel in ("reasoning", "tag"):
            tag, self._missing_tag = self._missing_tag, ""
            self._text(tag + span.text, start - len(tag), thought=span.channel == "reasoning")
            return
        if inline and span.channel == "answer":
            # Its own tag would tell a reader nothing; thinking that was shown has to end, though.
            if not self._missing_tag:
                self._text(self._closing, start)
            self._missing_tag = ""
            return
        match span.channel:
            case "text":
                self._text(span.text, start)
            case "reasoning":
                self._reasoning(span.text, start)
            case "tag" | "answer":
                self._settle()
                self._behind = True
                if self.blocks.is_open(Reasoning):
                    self.blocks.close()
            case "markup":
                pass
            case _:
                assert_never(span.channel)

    def _reasoning(self, text: str, start: int) -> None:
        share = self.attribution.take(start, start + len(text))
        self.reasoning_tokens += share.tokens
        if self._mode == "strip":
            return
        if not self.blocks.is_open(Reasoning):
            self._held.append(_HeldText(text, ()))
            if not text.strip(SPACE):
                return
            text = "".join(piece.text for piece in self._held)
            self._held.clear()
            self.blocks.open(Reasoning(""))
        self.blocks.add(text)

    def _text(self, text: str, start: int, *, thought: bool = False) -> None:
        """Add text; white space at its ends waits until it is known what comes next."""
        lead = len(text) - len(text.lstrip(SPACE))
        body = len(text.rstrip(SPACE))
        line = text.rfind("\n", 0, lead) + 1
        self._hold(text[:line], start, thought=thought)
        self._hold(text[line:lead], start + line, thought=thought)
        if lead < body:
            if self._behind:
                breaks = [at for at, held in enumerate(self._held) if held.text.endswith("\n")]
                # Line breaks behind a call or a tag belong to the markup; an indent is the text's.
                del self._held[: breaks[-1] + 1 if breaks else 0]
            self._hold(text[lead:body], start + lead, thought=thought)
            self._release()
            self._hold(text[body:], start + body, thought=thought)
        # White space before a call is dropped; where none can come, nobody has to wait for it.
        if self.blocks.is_open(Text) and not self._before_calls and not self._behind:
            self._release()

    def _hold(self, text: str, start: int, *, thought: bool) -> None:
        if text:
            share = self.attribution.take(start, start + len(text))
            self.reasoning_tokens += share.tokens if thought else 0
            self._held.append(_HeldText(text, share.logprobs))

    def _settle(self) -> None:
        """Something other than text follows: what is held ends the open text, or is dropped."""
        if self.blocks.is_open(Text) and not self._behind:
            self._release()
        self._held.clear()

    def _release(self) -> None:
        """Let what is held stand as text."""
        self._behind = False
        if not self.blocks.is_open(Text):
            self.blocks.open(Text(""))
        for piece in self._held:
            self.blocks.add(piece.text, piece.logprobs)
        self._held.clear()


class _Blocks:
    """Opens, fills and closes blocks one after the other; deltas of one turn are joined."""

    def __init__(self) -> None:
        self.count = 0
        """Blocks that were opened."""
        self.calls = 0
        """Blocks that are calls."""
        self._events: list[Event] = []
        self._part: OutputPart | None = None
        self._whole: list[str] = []
        self._delta: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def is_open(self, kind: type[OutputPart]) -> bool:
        """Whether the open block is of this kind."""
        return isinstance(self._part, kind)

    def open(self, part: OutputPart) -> None:
        """Open a block with its still empty part, after closing the one before."""
        self.close()
        self._events.append(BlockStart(self.count, part))
        self._part = part
        self.count += 1
        self.calls += isinstance(part, ToolCall)

    def add(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """More text of the open block."""
        self._delta.append(text)
        self._logprobs += logprobs

    def close(self) -> None:
        """Close the open block, if there is one."""
        if self._part is None:
            return
        self._flush()
        whole = "".join(self._whole)
        if isinstance(self._part, ToolCall):
            part: OutputPart = replace(self._part, arguments=whole)
        else:
            part = replace(self._part, text=whole)
        self._events.append(BlockEnd(self.count - 1, part))
        self._part = None
        self._whole.clear()

    def drain(self) -> list[Event]:
        """The events since the last time."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        text = "".join(self._delta)
        if text:
            self._events.append(BlockDelta(self.count - 1, text, tuple(self._logprobs)))
            self._whole.append(text)
        self._delta.clear()
        self._logprobs.clear()
