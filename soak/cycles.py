"""One cycle: start, look for what was promised, load, kill, look into the file."""

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from soak.load import Client, Ledger, losses
from soak.server import STORE, Server, serving


@dataclass(frozen=True)
class Plan:
    """`longest` is in seconds: the most that the server is under load before it is killed."""

    cycles: int = 300
    clients: int = 8
    shortest: float = 0.1
    longest: float = 1.5
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a cycle; `lost` is what the server had acknowledged and does not know."""

    acknowledged: int
    lost: tuple[str, ...]
    integrity: str
    start_seconds: float


def run(folder: Path, plan: Plan) -> Iterator[Outcome]:
    """All cycles, and a last start that looks for everything."""
    ledger, chance = Ledger(), random.Random(plan.seed)
    clients = [Client(number, ledger, chance) for number in range(plan.clients)]
    checked: set[str] = set()
    for _ in range(plan.cycles):
        with serving(folder) as server:
            lost = asyncio.run(losses(server.url, ledger, _ids(ledger) - checked))
            checked = _ids(ledger)
            asyncio.run(_load(server, clients, chance.uniform(plan.shortest, plan.longest)))
        yield Outcome(ledger.acknowledged, tuple(lost), integrity(folder / STORE), server.seconds)
    with serving(folder) as server:
        lost = asyncio.run(losses(server.url, ledger, _ids(ledger)))
    yield Outcome(ledger.acknowledged, tuple(lost), integrity(folder / STORE), server.seconds)


def _ids(ledger: Ledger) -> set[str]:
    return ledger.texts.keys() | ledger.deleted | ledger.background


async def _load(server: Server, clients: list[Client], seconds: float) -> None:
    """Let all clients work, and kill the server in the middle of it."""
    working = [asyncio.create_task(client.work(server.url)) for client in clients]
    await asyncio.wait(working, timeout=seconds)
    server.kill()
    await asyncio.gather(*working)


def integrity(path: Path) -> str:
    """What SQLite says of the file: `ok`."""
    with closing(sqlite3.connect(path)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])
