"""The measuring tools count right; that a figure is good is not tested here."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.ceiling import long_script
from bench.client import ask_all, count_events, read_reply
from bench.prompts import chats, plain
from bench.report import BEGIN, END, Figure, table, write_page

USAGE = b'data: {"usage":{"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5}}}\n\n'
FIRST = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content": "Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class CannedServer:
    """Answers every connection with the same pieces of bytes, each in a write of its own."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self.requests: list[bytes] = []

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        for piece in self._pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def test_the_first_text_is_when_its_first_character_arrived() -> None:
    reply = read_reply([(0.1, FIRST), (0.2, TEXT[:-8]), (0.3, TEXT[-8:]), (0.4, USAGE + DONE)])
    assert (reply.first_text, reply.seconds, reply.tokens, reply.cached) == (0.2, 0.4, 7, 5)


@pytest.mark.parametrize("kept", [FIRST + TEXT + DONE, FIRST + TEXT + USAGE, FIRST + USAGE + DONE])
def test_an_answer_that_is_not_whole_stops_the_measurement(kept: bytes) -> None:
    with pytest.raises(RuntimeError, match="not a whole answer"):
        read_reply([(0.1, kept)])


async def test_all_chats_are_asked_at_once_and_their_tokens_added_up() -> None:
    server = CannedServer([FIRST, TEXT, USAGE, DONE])
    async with server as port:
        run = await ask_all(port, plain(3), max_tokens=9)
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    assert all(body["messages"] in plain(3) for body in bodies)
    assert len({str(body["messages"]) for body in bodies}) == 3
    assert all(body["max_tokens"] == 9 and body["temperature"] == 0 for body in bodies)
    assert run.tokens_per_second == pytest.approx(21 / run.seconds)


async def test_events_are_counted_wherever_the_stream_is_cut() -> None:
    whole = b"HTTP/1.1 200 OK\r\n\r\n" + TEXT * 5 + DONE
    for size in (1, 3, 7, len(whole)):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        async with CannedServer(pieces) as port:
            count, _ = await count_events(port, connections=2)
        assert count == 2 * 6


async def test_a_cut_stream_is_not_counted() -> None:
    async with CannedServer([TEXT * 5]) as port:
        with pytest.raises(RuntimeError, match="the stream was cut"):
            await count_events(port, connections=1)


def test_a_ratio_says_how_many_times_as_fast_mlxd_is() -> None:
    speed = Figure("a", "tokens/s", 1.0, [(10, 20), (30, 20), (22, 20)], streams=4)
    wait = Figure("b", "ms", 1.0, [(10, 20), (50, 20), (16, 20)])
    assert speed.ratio == pytest.approx(1.1)
    assert wait.ratio == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", "tokens/s", 0.97, [(96.0, 100.0)]), "missed"),
        (Figure("a", "tokens/s", 0.97, [(97.5, 100.0)]), "met"),
        (Figure("a", "ms", 1.0, [(30.0, 20.0)]), "missed"),
        (Figure("a", "MB", 120, [(121.0, None)]), "missed"),
        (Figure("a", "s", 1, [(0.6, None)]), "met"),
        (Figure("a", "events/s", 30_000, [(29_000.0, None)]), "missed"),
        (Figure("a", "events/s", None, [(29_000.0, None)]), ""),
        (Figure("a", "tokens", 16, [(0.0, 40.0)], goal_alone=True), "met"),
        (Figure("a", "tokens", 16, [(32.0, 40.0)], goal_alone=True), "missed"),
    ],
)
def test_a_goal_is_met_or_missed(figure: Figure, verdict: str) -> None:
    assert figure.verdict()[1] == verdict
    assert table([figure]).splitlines()[2].count("|") == 8


def test_chats_are_new_every_time_and_begin_alike_only_where_they_shall() -> None:
    asked = [json.dumps(chat) for _ in range(3) for chat in chats("own", 4)]
    assert len(set(asked)) == 12
    shared = [chat[0] for _ in range(3) for chat in chats("shared", 4)]
    assert all(system == shared[0] for system in shared)
    own = [chat[0]["content"][:40] for chat in chats("own", 4)]
    assert len(set(own)) == 4


@pytest.mark.parametrize("apart", [False, True])
def test_a_long_script_has_as_many_pieces_as_asked_for(apart: bool) -> None:
    (answer,) = json.loads(long_script(50, apart=apart))
    assert sum(item.get("type") == "block_delta" for item in answer) == 50
    assert sum("pause" in item for item in answer) == (50 if apart else 0)


def test_a_run_of_a_part_leaves_the_other_figures_where_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Head\n{BEGIN.format('')}\nold\n{END.format('')}\nTail\n", encoding="utf-8")
    for text, parts in (("whole", ()), ("first", ("agent",)), ("second", ("agent",))):
        write_page(text, parts, page)
    written = page.read_text("utf-8")
    assert "Head" in written.partition("whole")[0]
    assert written.partition("whole")[2].split()[-10:].count("second") == 1
    assert not {"old", "first"} & set(written.split())
    write_page("new", (), page)
    assert "second" in page.read_text("utf-8")
    assert "whole" not in page.read_text("utf-8")
