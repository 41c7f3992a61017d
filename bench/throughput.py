"""Tokens per second and time to first token, mlxd against raw mlx-lm and `mlx_lm.server`.

The contenders stay up for the whole part and take turns; while one works the others are idle.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from bench.client import Run, ask_all
from bench.plan import Plan
from bench.processes import RawGenerator, Server, mlx_lm_server, mlxd, raw_generator
from bench.prompts import Chat, Kind, chats, plain
from bench.report import Figure

RAW_STREAMS = (1, 4, 16, 32)
RAW_GOAL = 0.97
PEER_GOAL = 1.0
SAME_WORK = 0.05
"""Greedy answers are the same on a CPU; where sums are ordered freely an end may come elsewhere."""
PEER_RUNS: tuple[tuple[Kind, int], ...] = (
    *(("short", streams) for streams in (1, 4, 16)),
    *(("shared", streams) for streams in (1, 4, 16)),
    *(("own", streams) for streams in (1, 4)),
)
LABELS: dict[Kind, str] = {
    "short": "short prompts",
    "shared": "1k-token prefix, shared",
    "own": "1k-token prefix, each its own",
}
# The raw generator keeps no prefixes, so in its part mlxd does not either.
NO_PREFIXES = {"MLXD_ENGINE__PREFIX_CACHE_BYTES": "0"}


def against_raw(plan: Plan) -> Iterator[Figure]:
    """The same greedy answers by raw `BatchGenerator` and through mlxd's HTTP."""
    samples: dict[int, list[tuple[float, float | None]]] = defaultdict(list)
    with raw_generator(plan.model) as raw, mlxd(plan.model, NO_PREFIXES) as server:
        server.wait_for_model()
        versus = Versus(raw, server, plan.tokens)
        versus.turn(plain(1), first_raw=True)
        for turn in range(plan.rounds):
            for streams in RAW_STREAMS:
                ours, theirs = versus.turn(plain(streams), first_raw=turn % 2 == 0)
                samples[streams].append((ours, theirs))
                plan.say(
                    f"raw, round {turn + 1}, {streams} streams: {ours:.1f} of {theirs:.1f} tokens/s"
                )
    for streams, pairs in samples.items():
        yield Figure("BatchGenerator", "tokens/s", RAW_GOAL, pairs, streams)


@dataclass(frozen=True)
class Versus:
    """mlxd and the raw generator, asked for the same answers in turn."""

    raw: RawGenerator
    server: Server
    tokens: int

    def turn(self, asked: list[Chat], *, first_raw: bool) -> tuple[float, float]:
        """Tokens per second of mlxd and of the raw generator, for the same amount of work."""
        before = self.raw.run(asked, self.tokens) if first_raw else None
        run = asyncio.run(ask_all(self.server.port, asked, self.tokens))
        tokens, speed = before or self.raw.run(asked, self.tokens)
        served = sum(reply.tokens for reply in run.replies)
        if abs(served - tokens) > SAME_WORK * tokens:
            raise RuntimeError(f"mlxd generated {served} tokens, the raw generator {tokens}")
        return run.tokens_per_second, speed


def against_peer(plan: Plan) -> Iterator[Figure]:
    """Fresh questions to mlxd and to `mlx_lm.server`, with and without a prefix in common."""
    runs: dict[tuple[Kind, int], list[tuple[Run, Run]]] = defaultdict(list)
    with mlx_lm_server(plan.model) as peer, mlxd(plan.model, {}) as server:
        contenders = (server, peer)
        for contender in contenders:
            contender.wait_for_model()
            turn_of(contender, chats("shared", 1), plan.tokens)
        for turn in range(plan.rounds):
            for kind, streams in PEER_RUNS:
                order = contenders if turn % 2 else contenders[::-1]
                asked = chats(kind, streams)
                done = {each.name: turn_of(each, asked, plan.tokens) for each in order}
                runs[kind, streams].append((done[server.name], done[peer.name]))
                plan.say(
                    f"peer, round {turn + 1}, {streams} streams, {LABELS[kind]}: {summary(done)}"
                )
    for (kind, streams), pairs in runs.items():
        speeds = [(ours.tokens_per_second, theirs.tokens_per_second) for ours, theirs in pairs]
        waits = [(ours.first_text * 1000, theirs.first_text * 1000) for ours, theirs in pairs]
        label = f"mlx_lm.server, {LABELS[kind]}"
        yield Figure(label, "tokens/s", PEER_GOAL, speeds, streams)
        yield Figure(f"{label}, first token", "ms", PEER_GOAL, waits, streams)


def turn_of(contender: Server, asked: list[Chat], tokens: int) -> Run:
    return asyncio.run(ask_all(contender.port, asked, tokens))


def summary(done: dict[str, Run]) -> str:
    return ", ".join(
        f"{name} {run.tokens_per_second:.1f} tokens/s after {run.first_text * 1000:.0f} ms"
        for name, run in done.items()
    )
