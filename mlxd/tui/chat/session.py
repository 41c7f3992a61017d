"""A conversation that the server keeps, with a copy here by which it can be had again.

Each question goes to the Responses API with the id of a conversation. After an answer that did not
end as it should, the server's copy is compared with ours and corrected before the next question; a
conversation that has expired is created anew. Where the server can't store, whole histories are
sent instead.
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing

import msgspec

from mlxd.tui.chat.answer import (
    KINDS,
    AnswerPart,
    StreamedAnswer,
    WireEvent,
    WireItem,
    text_of,
)
from mlxd.tui.chat.local.answer_settings import AnswerSettings
from mlxd.tui.chat.problems import (
    CONNECTION_LOST,
    MODEL_NOT_FOUND,
    STORE_UNAVAILABLE,
    UNKNOWN_URL,
    code_of,
    words,
)
from mlxd.tui.chat.transcript import QuestionAndAnswer, Transcript, parts_of
from mlxd.tui.client import ServerClient
from mlxd.tui.problems import NotUnderstood, ServerProblem, ServerRefused

ITEMS_AT_ONCE = 20
"""Items that one call may add to a conversation."""
ITEMS_A_PAGE = 100
NO_TOOLS = "This chat has no tools; nothing was called."
LOST = "The connection was lost in the middle of the answer."

NOT_STORED = "The server can't store the conversation now; the whole of it is sent each time."
STORED_AGAIN = "The server stores the conversation again."
NO_STORE = "This server keeps no conversations; the whole of it is sent each time."
EXPIRED = "The server no longer had the conversation; it was created anew."


class ListedModel(msgspec.Struct, frozen=True):
    """A model that the server lists; its window is 0 until that is known."""

    id: str
    max_input_tokens: int | None = None

    @property
    def window(self) -> int:
        return self.max_input_tokens or 0


class _Models(msgspec.Struct, frozen=True):
    data: list[ListedModel]


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Count(msgspec.Struct, frozen=True):
    input_tokens: int


class _Page(msgspec.Struct, frozen=True):
    data: list[WireItem]
    has_more: bool = False


class Session:
    """One person's conversation over `client`.

    `keep` says whether the server is to keep it, `schema` what answers have to be. `notify` gets
    sentences about how it is kept.
    """

    def __init__(
        self,
        client: ServerClient,
        *,
        model: str = "",
        system: str = "",
        keep: bool = True,
        schema: object = None,
        notify: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.model = model
        self.system = system
        self.turns: list[QuestionAndAnswer] = []
        self.conversation = ""
        self.unanswered = ""
        self.settings = AnswerSettings()
        self._schema = schema
        self._keep = keep
        self._storing = keep
        self._agreed = True
        self._notify = notify
        self._clock = clock

    @property
    def stored(self) -> bool:
        """Whether the server keeps the conversation now."""
        return self._storing

    @property
    def transcript(self) -> Transcript:
        return Transcript(tuple(self.turns), self.system, self.model)

    async def models(self) -> list[ListedModel]:
        """The models by the names they can be asked for by, the first one being the usual one."""
        return (await self.client.get("/v1/models", _Models)).data

    async def count(self, question: str) -> int:
        """Tokens of the prompt that `question` would be. Raises `ServerProblem`."""
        body = self._body(question, whole=True)
        for name in ("stream", "store", "max_output_tokens", "temperature", "top_p", "seed"):
            body.pop(name, None)
        return (
            await self.client.call("POST", "/v1/responses/input_tokens", _Count, body)
        ).input_tokens

    async def open(self, conversation: str) -> None:
        """Go on with a conversation that the server has. Raises `ServerProblem`."""
        items = await self._listed(f"/v1/conversations/{conversation}/items")
        self.clear()
        self.turns, self.conversation = turns_of(items), conversation

    def fork(self) -> None:
        """Go on in a copy; the conversation stays on the server as it is."""
        self.conversation, self._agreed = "", True

    def clear(self) -> None:
        """Begin a new conversation; the old one stays on the server until it expires."""
        self.turns, self.conversation, self.unanswered = [], "", ""
        self._agreed = True

    def take_back(self) -> str:
        """Take the last answer out of the conversation; the question it belongs to, if any."""
        if self.unanswered:
            question, self.unanswered = self.unanswered, ""
            return question
        if not self.turns:
            return ""
        self._agreed = False
        return self.turns.pop().question

    async def load(self, transcript: Transcript) -> None:
        """Go on from a transcript, as a new conversation. Raises `ServerProblem`."""
        self.clear()
        self.turns = list(transcript.turns)
        self.system = transcript.system
        await self._settle()

    async def ask(self, question: str) -> AsyncGenerator[StreamedAnswer, None]:
        """The answer to `question`, yielded again and again as it grows; always the same object.

        It never raises: what goes wrong ends the answer and stands in it. Leaving it early stops
        the answer on the server too.
        """
        answer = StreamedAnswer(sent_at=self._clock())
        question = _encodable(question)
        self.unanswered = ""
        try:
            yield answer
            async with aclosing(self._answered(question, answer)) as steps:
                async for _ in steps:
                    yield answer
            if not answer.ended:
                answer.stop(self._clock(), LOST, CONNECTION_LOST)
        except ServerProblem as problem:
            answer.stop(self._clock(), words(problem), code_of(problem))
        finally:
            if not answer.ended:
                answer.stop(self._clock())
            self._record(question, answer)
        yield answer

    async def _answered(self, question: str, answer: StreamedAnswer) -> AsyncGenerator[None, None]:
        """Feed `answer`; asks a second time if the first one found the server without our past."""
        await self._settle()
        try:
            async with aclosing(self._streamed(question, answer)) as steps:
                async for _ in steps:
                    yield
            return
        except ServerRefused as problem:
            if not self._storing or not self._recoverable(problem):
                raise
        if self._storing:
            await self._settle()
        async with aclosing(self._streamed(question, answer)) as steps:
            async for _ in steps:
                yield

    def _recoverable(self, problem: ServerRefused) -> bool:
        """Whether asking again makes sense, after settling what is wrong with the conversation."""
        if problem.code == STORE_UNAVAILABLE:
            self._give_up_storing(NOT_STORED)
            return True
        return self._forget_expired(problem)

    async def _streamed(self, question: str, answer: StreamedAnswer) -> AsyncGenerator[None, None]:
        body = self._body(question)
        async with self.client.stream("POST", "/v1/responses", body) as (headers, events):
            answer.served_by = headers.get("x-mlxd-model", "")
            async for event in events:
                if event.data == "[DONE]":
                    continue
                try:
                    wire = msgspec.json.decode(event.data, type=WireEvent)
                except (msgspec.MsgspecError, UnicodeError) as error:
                    raise NotUnderstood(self.client.url, f"/v1/responses: {error}") from error
                answer.take(wire, self._clock())
                yield

    def _body(self, question: str, *, whole: bool = False) -> dict[str, object]:
        message = _message("user", question)
        body: dict[str, object] = {"stream": True, **self.settings.body()}
        if self._schema is not None:
            form = {"type": "json_schema", "name": "answer", "strict": True}
            body["text"] = {"format": {**form, "schema": self._schema}}
        if self.model:
            body["model"] = _encodable(self.model)
        if self.system:
            body["instructions"] = _encodable(self.system)
        if self._storing and not whole:
            return body | {"conversation": self.conversation, "input": [message]}
        return body | {"store": False, "input": [*_items(self.turns), message]}

    def _record(self, question: str, answer: StreamedAnswer) -> None:
        """Keep what was said; a question without any answer is no part of the conversation."""
        self._agreed = answer.state == "completed" and not answer.calls and self._storing
        if answer.code == STORE_UNAVAILABLE and self._storing:
            self._give_up_storing(NOT_STORED)
        if answer.has_content:
            self.turns.append(QuestionAndAnswer(question, parts_of(answer.parts)))
        else:
            self.unanswered = question

    async def _settle(self) -> None:
        """Make the server's copy of the conversation equal to ours, if it is to have one."""
        if not self._keep:
            return
        try:
            await self._store()
        except ServerRefused as problem:
            if problem.code == STORE_UNAVAILABLE:
                self._give_up_storing(NOT_STORED)
            elif problem.status in (404, 405, 501):
                self._keep = False
                self._give_up_storing(NO_STORE)
            else:
                raise

    async def _store(self) -> None:
        # An answer that was stopped may be stored in part, or not at all: only a look can tell.
        if self.conversation and not self._agreed:
            try:
                await self._correct()
            except ServerRefused as problem:
                if not self._forget_expired(problem):
                    raise
        if not self.conversation:
            items = list(_items(self.turns))
            body = {"items": items[:ITEMS_AT_ONCE]}
            created = await self.client.call("POST", "/v1/conversations", _Id, body)
            await self._add(created.id, items[ITEMS_AT_ONCE:])
            # Not before it is whole: one that is not would be gone on from.
            self.conversation = created.id
        self._agreed = True
        if not self._storing:
            self._storing = True
            self._notify(STORED_AGAIN)

    async def _add(self, conversation: str, items: list[dict[str, object]]) -> None:
        for start in range(0, len(items), ITEMS_AT_ONCE):
            body = {"items": items[start : start + ITEMS_AT_ONCE]}
            await self.client.post(f"/v1/conversations/{conversation}/items", body)

    async def _correct(self) -> None:
        """Take out what the server has and we have not, add what it lacks."""
        path = f"/v1/conversations/{self.conversation}/items"
        there, ours = await self._listed(path), list(_items(self.turns))
        kept, known = _common(there, [msgspec.convert(item, WireItem) for item in ours])
        for item in there[kept:]:
            await self.client.delete(f"{path}/{item.id}")
        await self._add(self.conversation, ours[known:])

    async def _listed(self, path: str) -> list[WireItem]:
        """All items of the conversation, oldest first."""
        found: list[WireItem] = []
        more = True
        while more:
            after = f"&after={found[-1].id}" if found else ""
            page = await self.client.get(f"{path}?order=asc&limit={ITEMS_A_PAGE}{after}", _Page)
            found += page.data
            more = page.has_more and bool(page.data)
        return found

    def _forget_expired(self, problem: ServerRefused) -> bool:
        """Whether the server does not know the conversation any more; it is forgotten then."""
        if problem.status != 404 or problem.code in (MODEL_NOT_FOUND, UNKNOWN_URL):
            return False
        self.conversation = ""
        self._notify(EXPIRED)
        return True

    def _give_up_storing(self, why: str) -> None:
        self._agreed = False
        if self._storing:
            self._storing = False
            self._notify(why)


def turns_of(items: Iterable[WireItem]) -> list[QuestionAndAnswer]:
    """The items of a conversation as questions and their answers."""
    turns: list[QuestionAndAnswer] = []
    for item in items:
        kind = KINDS.get(item.type)
        if item.type == "message" and item.role == "user":
            turns.append(QuestionAndAnswer(text_of(item)))
        elif kind is not None and item.role in (None, "assistant"):
            part = AnswerPart(kind, text_of(item), item.name or "", item.call_id or "")
            last = turns.pop() if turns else QuestionAndAnswer("")
            turns.append(QuestionAndAnswer(last.question, (*last.answer, part)))
    return turns


def _encodable(text: str) -> str:
    """`text` without the halves of characters that a command line in another encoding leaves."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _items(turns: Iterable[QuestionAndAnswer]) -> Iterator[dict[str, object]]:
    """Turns as items of the Responses API; earlier reasoning is left out, as templates do."""
    for turn in turns:
        if turn.question:
            yield _message("user", turn.question)
        for part in turn.answer:
            yield from _answer_items(part)


def _answer_items(part: AnswerPart) -> Iterator[dict[str, object]]:
    match part.kind:
        case "text":
            yield _message("assistant", part.text)
        case "call":
            call = {"type": "function_call", "call_id": part.call_id or "call_0"}
            yield {**call, "name": part.name, "arguments": part.text or "{}"}
            output = {"type": "function_call_output", "call_id": part.call_id or "call_0"}
            yield {**output, "output": NO_TOOLS}


def _message(role: str, text: str) -> dict[str, object]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _common(there: list[WireItem], ours: list[WireItem]) -> tuple[int, int]:
    """How many items of each list say the same, from the beginning; reasoning does not count."""
    kept = known = 0
    for at, item in enumerate(there):
        if item.type == "reasoning":
            continue
        if known == len(ours) or _wording(item) != _wording(ours[known]):
            break
        kept, known = at + 1, known + 1
    return kept, known


def _wording(item: WireItem) -> tuple[str, str, str]:
    return item.type, item.role or item.name or "", text_of(item)
