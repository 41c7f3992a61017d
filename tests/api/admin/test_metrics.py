"""The page for Prometheus: names that stay, and labels that no caller can choose."""

import asyncio
import re
from pathlib import Path
from typing import Any, get_args

from prometheus_client.parser import text_string_to_metric_families

from mlxd.engine.scripted.engine import Gate
from mlxd.errors import EngineCrashed
from mlxd.events import Failed, MissReason, Usage
from tests.api.support import CHAT, HELLO, MESSAGES
from tests.api.watching import Watched, watched
from tests.scripts import STARTED, finished, text

DOCS = Path(__file__).resolve().parents[3] / "docs" / "admin.md"


async def samples(server: Watched) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every value by its name and labels."""
    page = await server.metrics()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def test_what_happened_is_counted_by_dialect_model_and_end() -> None:
    server = watched(STARTED, *text(0, "One"), finished(usage=Usage(12, 8, 7, 2)))
    await server.ask()
    await server.ask(model="whatever", stream=True)
    await server.post({"messages": HELLO, "max_tokens": 9, "model": "demo"}, MESSAGES)
    await server.ask(messages="wrong")
    found = await samples(server)
    chat = labels(dialect="openai_chat", model="demo", finish="stop")
    assert found["mlxd_requests_total", chat] == 2
    assert found["mlxd_request_errors_total", labels(kind="InvalidField")] == 1
    for kind, tokens in (("prompt", 36), ("cached", 24), ("completion", 21), ("reasoning", 6)):
        assert found["mlxd_tokens_total", labels(kind=kind)] == tokens
    for name in ("time_to_first_token", "queue", "prefill", "request"):
        assert found[f"mlxd_{name}_seconds_count", labels()] == 3
    assert found["mlxd_engine_up", labels()] == 1


async def test_failures_and_cancellations_are_told_apart() -> None:
    server = watched(STARTED, Failed(EngineCrashed("killed by signal 9").report()))
    await server.ask()
    found = await samples(server)
    failed = labels(dialect="openai_chat", model="demo", finish="failed")
    assert found["mlxd_requests_total", failed] == 1
    assert found["mlxd_request_errors_total", labels(kind="EngineCrashed")] == 1


async def test_what_runs_and_waits_is_a_gauge() -> None:
    gate = asyncio.Event()
    server = watched(STARTED, Gate(gate), *text(0, "One"), finished(), max_batch=1)
    asking = [asyncio.create_task(server.ask()) for _ in range(3)]
    await server.engine.reaches(lambda engine: engine.running == 3)
    found = await samples(server)
    assert found["mlxd_requests_running", labels()] == 1
    assert found["mlxd_requests_waiting", labels()] == 2
    gate.set()
    await asyncio.gather(*asking)


async def test_no_label_is_a_callers_word() -> None:
    server = watched(STARTED, *text(0, "One"), finished())
    odd: list[Any] = ["a-name", "x" * 300, "\n{}", 5, None]
    for name in odd:
        await server.ask(model=name)
        await server.post({"messages": HELLO, "model": name}, f"{CHAT}/{name}")
    values = {value for _, pairs in await samples(server) for _, value in pairs}
    known = re.compile(r"[A-Z][A-Za-z]+|openai_chat|demo|stop|\+Inf|[\d.]+|[a-z]{6,10}")
    assert all(known.fullmatch(value) for value in values - set(get_args(MissReason)))
    assert "a-name" not in values


async def test_each_server_counts_its_own() -> None:
    one, other = watched(STARTED, finished()), watched(STARTED, finished())
    await one.ask()
    assert (await samples(other)).get(("mlxd_request_seconds_count", labels())) == 0


async def test_every_metric_is_in_the_documentation() -> None:
    server = watched(STARTED, finished())
    page, documented = await server.metrics(), DOCS.read_text(encoding="utf-8")
    names = re.findall(r"(?m)^# TYPE (\w+) ", page)
    assert len(names) > 25
    assert [name for name in names if f"`{name}`" not in documented] == []
