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
from typing import assert_never

from msgspec.structs import replace

from mlxd.events import Usage
from mlxd.messages import (
    GenerateRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from mlxd.status import ConversationKind, ConversationStatus

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

_CHOICE = re.compile(r"-\d+$")
_OURS = re.compile(r"(?:conv|resp)_[0-9a-zA-Z]{8,64}")


@dataclass
class ActiveConversation:
    """A conversation now; `active_at` is the time of its last activity, `call` its latest one."""

    status: ConversationStatus
    active_at: float
    call: str = ""


class ActiveConversations:
    """The conversations of the last minutes; `now` gives the time in seconds."""

    def __init__(self, now: Callable[[], float], *, show_text: bool) -> None:
        self._now = now
        self.show_text = show_text
        self._active: OrderedDict[str, ActiveConversation] = OrderedDict()
        self._names: OrderedDict[tuple[str, str, bytes], str] = OrderedDict()

    def hide_texts(self) -> None:
        """Forget what was shown of them."""
        for each in self._active.values():
            each.status = replace(each.status, text="")

    def joined(self, request: GenerateRequest) -> str:
        """The id of the conversation that `request` belongs to, which it is a turn of now."""
        beginnings = list(_beginnings(request))
        names = [(request.source.key, kind, value.encode()) for kind, value in _named(request)]
        found = self._find(names, beginnings) or self._begin(request)
        identity = found.status.id
        for name in (*names, *beginnings[-1:]):
            self._names[name] = identity
            self._names.move_to_end(name)
        while len(self._names) > NAMES:
            self._names.popitem(last=False)
        self._active.move_to_end(identity)
        found.active_at = self._now()
        # The choices of one call are one turn.
        call = _CHOICE.sub("", request.id)
        status, source = found.status, request.source
        found.status = replace(
            status,
            dialect=source.dialect,
            model=request.model,
            client=source.client,
            agent=source.agent,
            running=status.running + 1,
            turns=status.turns + (call != found.call),
        )
        found.call = call
        return identity

    def ended(self, conversation: str, usage: Usage) -> None:
        """A request of the conversation is over, and has used so much."""
        if (found := self._active.get(conversation)) is None:
            return
        found.active_at = self._now()
        status = found.status
        assert status.running > 0, "every end belongs to a request that joined"
        found.status = replace(
            status,
            running=status.running - 1,
            prompt_tokens=status.prompt_tokens + usage.prompt,
            cached_tokens=status.cached_tokens + usage.cached,
            completion_tokens=status.completion_tokens + usage.completion,
        )

    def statuses(self, rates: Mapping[str, float]) -> tuple[ConversationStatus, ...]:
        """Those of the window, the latest first; `rates` are those of running requests."""
        now = self._now()
        return tuple(
            replace(
                each.status,
                idle=0.0 if each.status.running else round(max(0.0, now - each.active_at), 3),
                rate=round(rates.get(each.status.id, 0.0), 2),
            )
            for each in reversed(self._active.values())
            if each.status.running or now - each.active_at < WINDOW
        )

    def _find(
        self,
        names: Sequence[tuple[str, str, bytes]],
        beginnings: Sequence[tuple[str, str, bytes]],
    ) -> ActiveConversation | None:
        if names and names[0][1] in ("conversation", "session"):
            # A name that a caller gave is the truth: equal prompts under two names are two.
            return self._called(names[0])
        for name in names:
            if (found := self._called(name)) is not None:
                return found
        return next(filter(None, map(self._called, reversed(beginnings))), None)

    def _called(self, name: tuple[str, str, bytes]) -> ActiveConversation | None:
        return self._active.get(self._names.get(name, ""))

    def _begin(self, request: GenerateRequest) -> ActiveConversation:
        kind, value = next(iter(_named(request)), ("prefix", request.id))
        identity = _public_id(kind, value, request.source.key)
        if (forgotten := self._active.get(identity)) is not None:
            # Only its names were forgotten.
            return forgotten
        if len(self._active) >= SHOWN:
            resting = (key for key, each in self._active.items() if not each.status.running)
            del self._active[next(resting, next(iter(self._active)))]
        text = _first_question(request.messages)[:BEGINNING] if self.show_text else ""
        status = ConversationStatus(
            id=identity, kind=kind, dialect=request.source.dialect, model=request.model, text=text
        )
        found = self._active[identity] = ActiveConversation(status, self._now())
        return found


def _named(request: GenerateRequest) -> Iterator[tuple[ConversationKind, str]]:
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


def _public_id(kind: ConversationKind, value: str, owner: str) -> str:
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
