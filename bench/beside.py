"""A running stream beside a new long prompt: what each of the two loses by the other."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.client import FIRST_PIECE, arrivals, chat_body, read_reply
from bench.plan import Plan
from bench.processes import Server, mlx_lm_server, mlxd
from bench.prompts import Chat, ask, rules
from bench.report import Figure
from mlxd.config.settings import EngineSettings

STREAM_TOKENS = 400
"""The running answer goes on for longer than the long prompt takes."""
LEAD_SECONDS = 3.0
"""For so long the stream writes alone, before the other request comes."""
RATE_GOAL = 25.0
WAIT_GOAL = 135.0
TOKEN = b'"content":'

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Beside:
    """One round: the stream's tokens a second alone and beside the prompt, and the prompt's waits.

    `gap` is the longest time between two pieces of the stream while the prompt is computed.
    """

    rate_alone: float
    rate_beside: float
    gap: float
    first_alone: float
    first_beside: float

    @property
    def kept(self) -> float:
        """What is left of the stream's speed, in percent."""
        return 100 * self.rate_beside / self.rate_alone

    @property
    def wait(self) -> float:
        """The prompt's first token, in percent of the time that it takes alone."""
        return 100 * self.first_beside / self.first_alone


def beside_a_prompt(plan: Plan) -> Iterator[Figure]:
    """mlxd and `mlx_lm.server` with one stream, into which a prompt of 1,500 tokens comes."""
    rounds: list[tuple[Beside, Beside]] = []
    with mlx_lm_server(plan.model) as peer, mlxd(plan.model, {}) as server:
        for contender in (server, peer):
            contender.wait_for_model()
        for turn in range(plan.rounds):
            order = (server, peer) if turn % 2 else (peer, server)
            done = {each.name: asyncio.run(one_round(each)) for each in order}
            rounds.append((done[server.name], done[peer.name]))
            for name, found in done.items():
                plan.say(
                    f"beside, round {turn + 1}, {name}: {found.kept:.0f} % of the speed kept, "
                    f"longest gap {1000 * found.gap:.0f} ms, first token {found.wait:.0f} %"
                )
    budget = EngineSettings().prefill_budget
    yield Figure(
        "stream beside a long prompt, speed that is left",
        *("% of alone", RATE_GOAL, [(ours.kept, theirs.kept) for ours, theirs in rounds]),
        goal_alone=True,
    )
    yield Figure(
        "stream beside a long prompt, longest gap",
        *("ms", 2000 * budget, [(1000 * ours.gap, 1000 * theirs.gap) for ours, theirs in rounds]),
        goal_alone=True,
    )
    yield Figure(
        "long prompt beside a stream, first token",
        *("%", WAIT_GOAL, [(ours.wait, theirs.wait) for ours, theirs in rounds]),
        goal_alone=True,
    )


async def one_round(server: Server) -> Beside:
    """The prompt alone, then one as long beside a stream."""
    alone = await first_piece(server)
    begun = time.perf_counter()
    body = chat_body([ask(f"a mill, number {next(_numbers)}")], STREAM_TOKENS)
    running = asyncio.create_task(arrivals(server.port, body))
    await asyncio.sleep(LEAD_SECONDS)
    sent = time.perf_counter() - begun
    first = await first_piece(server)
    pieces = await running
    read_reply(pieces)
    return compared(token_times(pieces), (sent, sent + first), alone)


async def first_piece(server: Server) -> float:
    """Seconds to the first piece of a short answer to a long prompt."""
    body = chat_body(long_prompt(), 2)
    return read_reply(await arrivals(server.port, body), FIRST_PIECE).first_text


def long_prompt() -> Chat:
    """About 1,500 tokens that nobody has asked before."""
    number = next(_numbers)
    text = str(rules(f"house {number}")["content"]) + str(rules(f"garden {number}")["content"])
    return [{"role": "user", "content": text[: 3 * len(text) // 4]}]


def token_times(pieces: list[tuple[float, bytes]]) -> list[float]:
    """When each event with text arrived; one that is cut counts with its beginning."""
    return [at for at, data in pieces for _ in range(data.count(TOKEN))]


def compared(times: list[float], during: tuple[float, float], alone: float) -> Beside:
    """What a stream whose tokens came at `times` and a prompt computed meanwhile lost."""
    start, end = during
    before = [at for at in times if at <= start]
    meanwhile = [at for at in times if start < at <= end]
    if len(before) < 2 or times[-1] <= end:
        raise RuntimeError("the stream did not run before, beside and behind the prompt")
    behind = next(at for at in times if at > end)
    edges = [before[-1], *meanwhile, behind]
    return Beside(
        rate_alone=(len(before) - 1) / (before[-1] - before[0]),
        rate_beside=len(meanwhile) / (end - start),
        gap=max(after - at for at, after in itertools.pairwise(edges)),
        first_alone=alone,
        first_beside=end - start,
    )
