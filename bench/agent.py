"""Agents with tools: what each turn of a growing conversation reads again, and how soon it answers.

Three agents of one program, which have their instructions in common, take turns at a server; in the
middle it is started anew. Of tokens is counted what the servers say of themselves: how long a
prompt was, and how much of it was cached.
"""

import asyncio
import contextlib
import http.client
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from bench.admin import token
from bench.client import FIRST_PIECE, Reply, arrivals, read_reply
from bench.continuation import Continuation, continuation
from bench.conversations import Agent, answer_of
from bench.plan import Plan
from bench.processes import Server, mlx_lm_server, mlxd
from bench.report import Figure
from bench.tool_template import with_tools
from mlxd.config.settings import EngineSettings
from mlxd.status import Status

AGENTS = 3
ANSWER_TOKENS = 32
"""An answer is no longer: what is measured comes before it."""
READ_AGAIN_GOAL = 16.0
"""Tokens beside a turn's new messages: an answer's end, and what the template puts behind it."""
SECOND_TURN_GOAL = 1 / 1.15
RESTART_GOAL = 10.0
"""How many times less processor time the first turn after a restart takes, with a disk tier."""
HELD_GOAL = 130.0
"""Bytes of prefixes, in percent of one cache of all that the agents sent last."""
DISK_BYTES = 20 * 10**9

Start = Callable[[], AbstractContextManager[Server]]


@dataclass
class Measured:
    """What one server did in one round; all lists go turn by turn."""

    replies: list[list[Reply]] = field(default_factory=list)
    """Of each agent, in the order of the agents."""
    again: list[int] = field(default_factory=list)
    """Tokens that a turn read though they were part of an earlier prompt or answer."""
    cpu: list[float] = field(default_factory=list)
    """Processor time of all agents' turns together; after the restart without the first one's."""
    second_turn: list[dict[str, object]] = field(default_factory=list)
    """What the first agent sent in its second turn."""
    restarted: float = 0.0
    """Processor time of the first request after the restart."""
    cold: float = 0.0
    """Processor time of the same request where nothing of it is known."""
    held: int = 0
    """Bytes of prefixes at the end."""

    @property
    def first_piece(self) -> float:
        """Median milliseconds to the first piece of an answer, of turns that may answer in text."""
        waits = [reply.first_text for turn in self.replies[1::2] for reply in turn]
        return 1000 * median(waits)


def agent_turns(plan: Plan) -> Iterator[Figure]:
    """mlxd against `mlx_lm.server`, and against new tokens alone behind a context that is there."""
    rounds: list[tuple[Measured, Measured]] = []
    alone: list[tuple[float, float]] = []
    with with_tools(plan.model) as model, continuation(model) as raw:
        for turn in range(plan.rounds):
            with tempfile.TemporaryDirectory() as disk:
                ours: Start = partial(mlxd, model, disk_tier(Path(disk)))
                theirs: Start = partial(mlx_lm_server, model)
                measured = {
                    start: conversations(start, plan, f"project {turn + 1}")
                    for start in ((ours, theirs) if turn % 2 else (theirs, ours))
                }
            rounds.append((measured[ours], measured[theirs]))
            alone.append(new_tokens_alone(raw, measured[ours]))
            plan.say(f"agent, round {turn + 1}: {summary(*rounds[-1])}")
    yield from figures(rounds, alone)


def disk_tier(folder: Path) -> dict[str, str]:
    """Settings that keep prefixes on the disk, where this mlxd can."""
    if "prefix_disk_bytes" not in EngineSettings.model_fields:
        return {}
    return {
        "MLXD_ENGINE__PREFIX_DISK_BYTES": str(DISK_BYTES),
        "MLXD_ENGINE__PREFIX_DISK_PATH": str(folder),
    }


def conversations(start: Start, plan: Plan, project: str) -> Measured:
    """All turns of all agents at a server that is started anew in the middle."""
    agents = [Agent(project, number) for number in range(AGENTS)]
    measured, half = Measured(), plan.turns // 2
    with start() as server:
        server.wait_for_model()
        for _ in range(half):
            turn_of_all(server, agents, plan, measured)
    unknown = agents[0].elsewhere()
    with start() as server:
        server.wait_for_model()
        begun = server.cpu_seconds()
        first = one_turn(server, agents[0], plan, measured)
        measured.restarted = server.cpu_seconds() - begun
        turn_of_all(server, agents, plan, measured, done=[first])
        for _ in range(half + 1, plan.turns):
            turn_of_all(server, agents, plan, measured)
        if server.name == "mlxd":
            measured.held = held_bytes(server)
            begun = server.cpu_seconds()
            one_turn(server, unknown, plan, Measured())
            measured.cold = server.cpu_seconds() - begun
    return measured


def turn_of_all(
    server: Server,
    agents: Sequence[Agent],
    plan: Plan,
    measured: Measured,
    *,
    done: Sequence[Reply] = (),
) -> None:
    """One turn of each agent, but for the first ones that have theirs already `done`."""
    if len(measured.replies) == 1:
        measured.second_turn = list(agents[0].messages)
    begun = server.cpu_seconds()
    replies = [*done, *(one_turn(server, agent, plan, measured) for agent in agents[len(done) :])]
    measured.replies.append(replies)
    measured.cpu.append(server.cpu_seconds() - begun)


def one_turn(server: Server, agent: Agent, plan: Plan, measured: Measured) -> Reply:
    """Ask for an agent's next answer and go on with it."""
    known = agent.known
    pieces = asyncio.run(arrivals(server.port, agent.body(min(plan.tokens, ANSWER_TOKENS))))
    reply = read_reply(pieces, FIRST_PIECE)
    if known:
        measured.again.append(max(known - reply.cached, 0))
    message = answer_of(b"".join(data for _, data in pieces))
    agent.took(message, prompt=reply.prompt, completion=reply.tokens)
    return reply


def held_bytes(server: Server) -> int:
    """Memory of KV prefixes, as the server tells its administrator."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with contextlib.closing(connection):
        connection.request(
            "GET", "/admin/status", headers={"Authorization": f"Bearer {token(server)}"}
        )
        status = msgspec.json.decode(connection.getresponse().read(), type=Status)
    return status.engine.figures.prefix_bytes


def new_tokens_alone(raw: Continuation, measured: Measured) -> tuple[float, float]:
    """Milliseconds of the first agent's second turn from its new tokens on; bytes of a token."""
    reply = measured.replies[1][0]
    return raw.run(measured.second_turn, prompt=reply.prompt, known=reply.cached)


def figures(
    rounds: Sequence[tuple[Measured, Measured]], alone: Sequence[tuple[float, float]]
) -> Iterator[Figure]:
    """The lines of the table."""
    each = list(zip(rounds, alone, strict=True))
    yield Figure(
        "agents, most that a turn reads again",
        "tokens",
        READ_AGAIN_GOAL,
        [(max(until_restart(ours)), max(until_restart(theirs))) for ours, theirs in rounds],
        AGENTS,
        goal_alone=True,
    )
    waits = [(ours.first_piece, theirs.first_piece) for ours, theirs in rounds]
    yield Figure("mlx_lm.server, agents, first token of a turn", "ms", 1.0, waits, AGENTS)
    spent = [(median(ours.cpu[1:]), median(theirs.cpu[1:])) for ours, theirs in rounds]
    yield Figure("mlx_lm.server, agents, CPU of a turn of all", "s", 1.0, spent, AGENTS)
    second = [
        (1000 * ours.replies[1][0].first_text, milliseconds)
        for (ours, _), (milliseconds, _) in each
    ]
    yield Figure("new tokens alone, second turn, first token", "ms", SECOND_TURN_GOAL, second)
    restarts = [(ours.restarted, ours.cold) for ours, _ in rounds]
    goal = RESTART_GOAL if disk_tier(Path()) else None
    yield Figure("cold prompt, first turn after a restart, CPU", "s", goal, restarts)
    held = [
        (100 * ours.held / (size * sum(reply.prompt for reply in ours.replies[-1])), None)
        for (ours, _), (_, size) in each
    ]
    yield Figure("agents, prefixes held, of a cache of each last prompt", "%", HELD_GOAL, held)


def until_restart(measured: Measured) -> list[int]:
    """What turns read again that had nothing to lose: a restart may have taken it away."""
    half = (len(measured.replies) // 2 - 1) * AGENTS
    return [*measured.again[:half], *measured.again[half + AGENTS :]]


def summary(ours: Measured, theirs: Measured) -> str:
    """One round in a line."""
    return ", ".join(
        f"{name} reads {max(until_restart(each))} tokens again, first token {each.first_piece:.0f}"
        f" ms, {median(each.cpu[1:]):.1f} s CPU a turn"
        for name, each in (("mlxd", ours), ("mlx_lm.server", theirs))
    )
