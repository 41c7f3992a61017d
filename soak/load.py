"""Clients that note what the server has acknowledged, and ask for it again later."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

END = b"event: response.completed\ndata: "
TIMEOUT = 20.0


@dataclass
class Ledger:
    """What was acknowledged: responses and their text, deletions, background runs, appends."""

    texts: dict[str, str] = field(default_factory=dict)
    chains: dict[str, str] = field(default_factory=dict)
    """The response that each went on from, if any."""
    deleted: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """Responses whose deletion was asked for and not answered."""
    background: set[str] = field(default_factory=set)
    conversations: dict[str, list[str]] = field(default_factory=dict)
    """The texts that must be in each, in no order of their own."""

    @property
    def acknowledged(self) -> int:
        return len(self.texts) + len(self.deleted) + len(self.background)


class Client:
    """One client, doing one thing after the other until its server is gone."""

    def __init__(self, number: int, ledger: Ledger, chance: random.Random) -> None:
        self._name = f"client {number}"
        self._ledger = ledger
        self._chance = chance
        self._count = 0
        self._last = ""
        self._conversation = ""

    async def work(self, url: str) -> None:
        """Ask until the connection breaks."""
        actions = [self._ask, self._ask, self._stream, self._stream, self._append]
        actions += [self._run, self._delete]
        async with _client(url) as http:
            while True:
                try:
                    await self._chance.choice(actions)(http)
                except httpx.TransportError:
                    return

    async def _ask(self, http: httpx.AsyncClient) -> None:
        body = await _done(await http.post("/v1/responses", json=self._body()))
        self._note(body)

    async def _stream(self, http: httpx.AsyncClient) -> None:
        body = self._body() | {"stream": True}
        async with http.stream("POST", "/v1/responses", json=body) as answer:
            told = b""
            async for piece in answer.aiter_bytes():
                told += piece
                # Not a byte later than the client knows it may the server's memory begin.
                event, ended, _ = told.partition(END)[2].partition(b"\n\n")
                if ended:
                    self._note(msgspec.json.decode(event)["response"])
                    return
        raise RuntimeError(f"a stream ended without its end: {told[-300:]!r}")

    async def _append(self, http: httpx.AsyncClient) -> None:
        if not self._conversation:
            made = await _done(await http.post("/v1/conversations", json={}))
            self._conversation = made["id"]
            self._ledger.conversations[made["id"]] = []
        body = self._body(chained=False) | {"conversation": self._conversation}
        done = await _done(await http.post("/v1/responses", json=body))
        self._note(done, chained=False)
        self._ledger.conversations[self._conversation].append(text_of(done))

    async def _run(self, http: httpx.AsyncClient) -> None:
        body = self._body(chained=False) | {"background": True}
        begun = await _done(await http.post("/v1/responses", json=body))
        self._ledger.background.add(begun["id"])

    async def _delete(self, http: httpx.AsyncClient) -> None:
        """Of the own chain, so that it goes on from something that is gone."""
        before = self._ledger.chains.get(self._last)
        if not before or before not in self._ledger.texts:
            return
        again = before in self._ledger.doubtful
        self._ledger.doubtful.add(before)
        answer = await http.delete(f"/v1/responses/{before}")
        # The server may have been killed between deleting it and saying so.
        if not (again and answer.status_code == 404):
            await _done(answer)
        self._ledger.doubtful.discard(before)
        self._ledger.deleted.add(before)
        del self._ledger.texts[before]

    def _body(self, *, chained: bool = True) -> dict[str, Any]:
        self._count += 1
        body: dict[str, Any] = {"model": "demo", "input": f"{self._name}, {self._count}"}
        if chained and self._last and self._chance.random() < 0.9:
            body["previous_response_id"] = self._last
        return body

    def _note(self, response: dict[str, Any], *, chained: bool = True) -> None:
        self._ledger.texts[response["id"]] = text_of(response)
        if chained:
            self._ledger.chains[response["id"]] = response["previous_response_id"] or ""
            self._last = response["id"]


def _client(url: str) -> httpx.AsyncClient:
    # Reading certificates that nothing here needs would take longer than some cycles.
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT, verify=False)


async def losses(url: str, ledger: Ledger, ids: set[str]) -> list[str]:
    """What the server no longer knows of what it acknowledged; of the responses, those of `ids`."""
    found: list[str] = []
    limit = asyncio.Semaphore(16)

    async def check(http: httpx.AsyncClient, kind: str, name: str) -> None:
        async with limit:
            if problem := await CHECKS[kind](http, ledger, name):
                found.append(f"{kind} {name}: {problem}")

    async with _client(url) as http:
        asked = [("response", name) for name in ledger.texts.keys() & ids]
        asked += [("deletion", name) for name in ledger.deleted & ids]
        asked += [("background", name) for name in ledger.background & ids]
        asked += [("conversation", name) for name in ledger.conversations]
        await asyncio.gather(*(check(http, kind, name) for kind, name in asked))
    return found


async def _response(http: httpx.AsyncClient, ledger: Ledger, name: str) -> str:
    answer = await http.get(f"/v1/responses/{name}")
    if answer.status_code == 404 and name in ledger.doubtful:
        return ""
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    body = msgspec.json.decode(answer.content)
    if body["status"] != "completed" or text_of(body) != ledger.texts[name]:
        return f"it is {body['status']} and says {text_of(body)!r}"
    return ""


async def _deletion(http: httpx.AsyncClient, ledger: Ledger, name: str) -> str:
    answer = await http.get(f"/v1/responses/{name}")
    return "" if answer.status_code == 404 else f"status {answer.status_code}"


async def _background(http: httpx.AsyncClient, ledger: Ledger, name: str) -> str:
    answer = await http.get(f"/v1/responses/{name}")
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    body = msgspec.json.decode(answer.content)
    match body["status"]:
        case "completed":
            return ""
        case "failed" if body["error"]["message"]:
            return ""
        case status:
            return f"it is {status}"


async def _conversation(http: httpx.AsyncClient, ledger: Ledger, name: str) -> str:
    there: list[str] = []
    params: dict[str, str | int] = {"limit": 100, "order": "asc"}
    while True:
        page = await http.get(f"/v1/conversations/{name}/items", params=params)
        if page.status_code != 200:
            return f"status {page.status_code}"
        told = msgspec.json.decode(page.content)
        said = [each for each in told["data"] if each.get("role") == "assistant"]
        there += [text_of({"output": [each]}) for each in said]
        if not told["has_more"]:
            break
        params["after"] = told["last_id"]
    missing = set(ledger.conversations[name]) - set(there)
    if missing or len(there) != len(set(there)):
        return f"{len(missing)} answers are missing, {len(there) - len(set(there))} are repeated"
    return ""


CHECKS = {
    "response": _response,
    "deletion": _deletion,
    "background": _background,
    "conversation": _conversation,
}


def text_of(response: dict[str, Any]) -> str:
    """All text of a Response object."""
    parts = [part for each in response["output"] for part in each.get("content", ())]
    return "".join(part.get("text", "") for part in parts)


async def _done(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != 200:
        raise RuntimeError(f"status {answer.status_code}: {answer.text[:300]}")
    body: dict[str, Any] = msgspec.json.decode(answer.content)
    return body
