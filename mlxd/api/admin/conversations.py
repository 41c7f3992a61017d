"""Which requests belong together, whatever dialect they came in.

A conversation is known by the name that its caller or the store gave it, and else by its prompts:
a request whose messages begin with all messages of an earlier one goes on from there. Messages are
remembered as hashes, of long texts only the two ends are looked at.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from mlxd.events import Usage
from mlxd.messages import (
    GenerateRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from mlxd.status import ConversationPart

WINDOW = 900.0
"""Seconds that a conversation is shown after its last activity."""
SHOWN = 200
"""Conversations that are known at once; of those that rest the oldest is forgotten first."""
NAMES = 4000
"""Names and beginnings by which they are recognised."""
SAMPLE = 2048
"""Characters at each end of a text that are looked at."""
BEGINNING = 200
"""Characters of its first question that are shown where texts may be shown."""

Kind = Literal["conversation", "responses", "session", "prefix"]

_CHOICE = re.compile(r"-\d+$")
_OURS = re.compile(r"(?:conv|resp)_[0-9a-zA-Z]{8,64}")


@dataclass
class Known:
    """A conversation as it is known now; `last` is the time of its last activity."""

    id: str
    kind: Kind
    source: Source
    model: str
    last: float
    text: str = ""
    turn: str = ""
    turns: int = 0
    running: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0


class Conversations:
    """The conversations of the last minutes; `now` gives the time in seconds."""

    def __init__(self, now: Callable[[], float], *, show_text: bool) -> None:
        self._now = now
        self._show_text = show_text
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._names: OrderedDict[tuple[str, str, bytes], str] = OrderedDict()

    def joined(self, request: GenerateRequest) -> str:
        """The id of the conversation that `request` belongs to, which it is a turn of now."""
        beginnings = list(_beginnings(request))
        names = [(request.source.key, kind, value.encode()) for kind, value in _named(request)]
        known = self._find(names, beginnings) or self._begin(request)
        for name in (*names, *beginnings[-1:]):
            self._names[name] = known.id
            self._names.move_to_end(name)
        while len(self._names) > NAMES:
            self._names.popitem(last=False)
        self._take_turn(known, request)
        return known.id

    def ended(self, conversation: str, usage: Usage) -> None:
        """A request of the conversation is over, and has used so much."""
        if (known := self._known.get(conversation)) is None:
            return
        known.last = self._now()
        known.running -= 1
        known.prompt += usage.prompt
        known.cached += usage.cached
        known.completion += usage.completion

    def parts(self, rates: Mapping[str, float]) -> tuple[ConversationPart, ...]:
        """Those of the window, the latest first; `rates` are those of running requests."""
        now = self._now()
        shown = [
            known
            for known in reversed(self._known.values())
            if known.running > 0 or now - known.last < WINDOW
        ]
        return tuple(_part(known, now, rates.get(known.id, 0.0)) for known in shown)

    def _find(
        self,
        names: Sequence[tuple[str, str, bytes]],
        beginnings: Sequence[tuple[str, str, bytes]],
    ) -> Known | None:
        if names and names[0][1] in ("conversation", "session"):
            return self._called(names[0])
        for name in names:
            if (known := self._called(name)) is not None:
                return known
        return next(filter(None, map(self._called, reversed(beginnings))), None)

    def _called(self, name: tuple[str, str, bytes]) -> Known | None:
        return self._known.get(self._names.get(name, ""))

    def _begin(self, request: GenerateRequest) -> Known:
        source = request.source
        kind, value = next(iter(_named(request)), ("prefix", request.id))
        name = _public_id(kind, value, source.key)
        if (forgotten := self._known.get(name)) is not None:
            # Only its names were forgotten.
            return forgotten
        if len(self._known) >= SHOWN:
            resting = (each.id for each in self._known.values() if not each.running)
            del self._known[next(resting, next(iter(self._known)))]
        known = self._known[name] = Known(name, kind, source, request.model, self._now())
        if self._show_text:
            known.text = _first_question(request.messages)[:BEGINNING]
        return known

    def _take_turn(self, known: Known, request: GenerateRequest) -> None:
        self._known.move_to_end(known.id)
        known.source, known.model, known.last = request.source, request.model, self._now()
        known.running += 1
        # The choices of one call are one turn.
        call = _CHOICE.sub("", request.id)
        if call != known.turn:
            known.turn = call
            known.turns += 1


def _named(request: GenerateRequest) -> Iterator[tuple[Kind, str]]:
    """What the conversation is called, the surest name first."""
    source = request.source
    group = source.conversation or ""
    if group.startswith("conv_"):
        yield "conversation", group
        return
    if source.session:
        yield "session", source.session
    if group.startswith("resp_"):
        yield "responses", group
    elif group:
        yield "session", group


def _public_id(kind: Kind, value: str, owner: str) -> str:
    """An id to show: ours as it is, a caller's as a hash."""
    if _OURS.fullmatch(value):
        return value
    digest = hashlib.blake2b(f"{owner}\n{kind}\n{value}".encode("utf-8", "replace"), digest_size=6)
    return f"{kind}-{digest.hexdigest()}"


def _beginnings(request: GenerateRequest) -> Iterator[tuple[str, str, bytes]]:
    """A name for each beginning of the messages, the shortest first."""
    owner = request.source.key
    digest = hashlib.blake2b(digest_size=16)
    for message in request.messages:
        digest.update(f"\0{message.role}\0".encode())
        for part in message.parts:
            digest.update(_sample(part))
        yield owner, "prefix", digest.digest()


def _sample(part: Part) -> bytes:
    match part:
        case Text(text):
            return _ends(text)
        case Reasoning():
            # Many clients leave it out of the next turn.
            return b""
        case Image(data=data):
            return b"\1%d\1" % len(data) + data[-64:]
        case ToolCall(name=name, arguments=arguments):
            return _ends(name) + _ends(arguments)
        case ToolResult(parts=parts):
            return b"".join(_sample(inner) for inner in parts)
        case _:
            assert_never(part)


def _ends(text: str) -> bytes:
    if len(text) > 2 * SAMPLE:
        text = f"{len(text)}\2{text[:SAMPLE]}\2{text[-SAMPLE:]}"
    return text.encode("utf-8", "replace") + b"\2"


def _first_question(messages: Sequence[Message]) -> str:
    texts = (
        part.text
        for message in messages
        if message.role == "user"
        for part in message.parts
        if isinstance(part, Text)
    )
    return " ".join(next(texts, "").split())


def _part(known: Known, now: float, rate: float) -> ConversationPart:
    source = known.source
    return ConversationPart(
        id=known.id,
        kind=known.kind,
        dialect=source.dialect,
        model=known.model,
        client=source.client,
        agent=source.agent,
        turns=known.turns,
        running=known.running,
        prompt_tokens=known.prompt,
        cached_tokens=known.cached,
        completion_tokens=known.completion,
        idle=round(max(0.0, now - known.last), 3) if not known.running else 0.0,
        rate=round(rate, 2),
        text=known.text,
    )
