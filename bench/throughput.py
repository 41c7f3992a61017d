"""Tokens per second and time to first token, mlxd against raw mlx-lm and `mlx_lm.server`.

The contenders stay up for the whole part and take turns; while one works the others are idle.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.client import Run, ask_all
from bench.processes import RawGenerator, Server, mlx_lm_server, mlxd, raw_generator
from bench.prompts import Chat, Kind, chats, plain
from bench.report import Figure

MAX_TOKENS = 96
RAW_STREAMS = (1, 4, 16, 32)
RAW_GOAL = 0.97
PEER_GOAL = 1.0
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

Say = Callable[[str], None]


def against_raw(model: Path, rounds: int, say: Say) -> Iterator[Figure]:
    """The same greedy answers by raw `BatchGenerator` and through mlxd's HTTP."""
    samples: dict[int, list[tuple[float, float | None]]] = defaultdict(list)
    with raw_generator(model) as raw, mlxd(model, NO_PREFIXES) as server:
        server.wait_for_model()
        raw_turn(raw, server, plain(1), first_raw=True)
        for turn in range(rounds):
            for streams in RAW_STREAMS:
                ours, theirs = raw_turn(raw, server, plain(streams), first_raw=turn % 2 == 0)
                samples[streams].append((ours, theirs))
                say(
                    f"raw, round {turn + 1}, {streams} streams: {ours:.1f} of {theirs:.1f} tokens/s"
                )
    for streams, pairs in samples.items():
        yield Figure("BatchGenerator", "tokens/s", RAW_GOAL, pairs, streams)


def raw_turn(
    raw: RawGenerator, server: Server, asked: list[Chat], *, first_raw: bool
) -> tuple[float, float]:
    """Tokens per second of mlxd and of the raw generator; both must generate as many tokens."""
    before = raw.tokens_per_second(asked, MAX_TOKENS) if first_raw else None
    run = asyncio.run(ask_all(server.port, asked, MAX_TOKENS))
    tokens, speed = before or raw.tokens_per_second(asked, MAX_TOKENS)
    served = sum(reply.tokens for reply in run.replies)
    if served != tokens:
        raise RuntimeError(f"mlxd generated {served} tokens, the raw generator {tokens}")
    return run.tokens_per_second, speed


def against_peer(model: Path, rounds: int, say: Say) -> Iterator[Figure]:
    """Fresh questions to mlxd and to `mlx_lm.server`, with and without a prefix in common."""
    runs: dict[tuple[Kind, int], list[tuple[Run, Run]]] = defaultdict(list)
    with mlx_lm_server(model) as peer, mlxd(model, {}) as server:
        contenders = (server, peer)
        for contender in contenders:
            contender.wait_for_model()
            turn_of(contender, "shared", 1)
        for turn in range(rounds):
            for kind, streams in PEER_RUNS:
                order = contenders if turn % 2 else contenders[::-1]
                done = {contender.name: turn_of(contender, kind, streams) for contender in order}
                runs[kind, streams].append((done[server.name], done[peer.name]))
                say(f"peer, round {turn + 1}, {streams} streams, {LABELS[kind]}: {summary(done)}")
    for (kind, streams), pairs in runs.items():
        speeds = [(ours.tokens_per_second, theirs.tokens_per_second) for ours, theirs in pairs]
        waits = [(ours.first_text * 1000, theirs.first_text * 1000) for ours, theirs in pairs]
        label = f"mlx_lm.server, {LABELS[kind]}"
        yield Figure(label, "tokens/s", PEER_GOAL, speeds, streams)
        yield Figure(f"{label}, first token", "ms", PEER_GOAL, waits, streams)


def turn_of(contender: Server, kind: Kind, streams: int) -> Run:
    return asyncio.run(ask_all(contender.port, chats(kind, streams), MAX_TOKENS))


def summary(done: dict[str, Run]) -> str:
    return ", ".join(
        f"{name} {run.tokens_per_second:.1f} tokens/s after {run.first_text * 1000:.0f} ms"
        for name, run in done.items()
    )
