"""Statuses to look at: an idle server, a busy one, one with a hundred things going on."""

from typing import Literal

from msgspec.structs import replace

from mlxd.events import CacheNote
from mlxd.status import (
    Capacity,
    ConversationStatus,
    EngineFigures,
    EngineStatus,
    Lifecycle,
    ModelInfo,
    Rates,
    RequestStatus,
    Restart,
    RowFigures,
    Second,
    ServerStatus,
    Status,
    ThroughputHistory,
    Totals,
)

NOW = 1_790_000_000.0
GB = 10**9
WAITS = ("every place in the batch is taken", "its KV cache has no room beside what is running")
MISSED = "the prompt differs from the cached one after 312 of 4096 tokens"

MODELS = (
    ModelInfo(
        id="qwen3-4b",
        state="loaded",
        source="mlx-community/Qwen3-4B",
        bytes=3 * GB,
        context_length=40_960,
        default=True,
    ),
    ModelInfo(id="demo", state="unloaded", source="demo"),
    ModelInfo(id="broken", state="failed", source="./broken", reason="no config.json"),
)
IDLE = Status(
    server=ServerStatus(
        version="0.5.0",
        state="serving",
        health="ok",
        at=NOW,
        uptime=11_520,
        url="http://127.0.0.1:8484",
        memory=120_000_000,
        connections=1,
    ),
    engine=EngineStatus(
        state="ready",
        device="cpu",
        blas="OpenBLAS",
        memory_limit=19 * GB,
        figures=EngineFigures(memory_used=4 * GB, memory_peak=5 * GB),
        step_seconds=0.038,
        models=MODELS,
    ),
    capacity=Capacity(max_batch=32, max_queue=64),
)


def decoding(number: int, *, tokens: int = 0, client: str = "") -> RequestStatus:
    """A request that is writing its answer."""
    return RequestStatus(
        id=f"req_{number:08x}",
        dialect=("chat", "messages", "responses")[number % 3],
        model="qwen3-4b",
        client=client or "127.0.0.1",
        agent=("claude-cli", "codex", "openai-python", "curl")[number % 4],
        conversation=f"conv_{number % 5}",
        phase="decode",
        stream=True,
        age=10.0 + number,
        queued=0.4,
        prefill=1.1,
        decode=8.5 + number,
        first_token=1.5,
        figures=RowFigures(
            prompt_tokens=4_096 + 100 * number,
            cached_tokens=0 if number % 4 == 1 else 3_500,
            prefilled_tokens=4_096,
            completion_tokens=tokens or 120 + number,
            cache_note=CacheNote("differs", MISSED) if number % 4 == 1 else None,
        ),
        max_tokens=1_024,
        rate=11.5 + number % 7,
    )


PREFILLING = RequestStatus(
    id="req_beef0001",
    dialect="messages",
    model="qwen3-4b",
    client="127.0.0.1",
    agent="claude-cli",
    phase="prefill",
    age=2.0,
    queued=0.5,
    prefill=1.5,
    figures=RowFigures(prompt_tokens=12_000, prefilled_tokens=5_160),
)


def waiting(number: int) -> RequestStatus:
    """A request in the queue."""
    return RequestStatus(
        id=f"req_dead{number:04x}",
        dialect="chat",
        model="qwen3-4b",
        client="192.168.1.20",
        agent="openai-python",
        phase="queued",
        age=3.0 + number,
        queued=3.0 + number,
        wait_note=WAITS[number % len(WAITS)],
        figures=RowFigures(prompt_tokens=800 * (number + 1)),
    )


def talks(number: int) -> ConversationStatus:
    """A conversation with some turns behind it."""
    return ConversationStatus(
        id=f"conv_{number}",
        kind=("conversation", "responses", "session", "prefix")[number % 4],
        dialect="messages",
        model="qwen3-4b",
        client="127.0.0.1",
        agent="claude-cli",
        turns=3 + number,
        running=number % 2,
        prompt_tokens=20_000 * (number + 1),
        cached_tokens=15_000 * (number + 1),
        completion_tokens=900 + number,
        idle=number * 7.0,
        rate=4.0 * (number % 2),
    )


def crowded(running: int, queued: int = 3) -> Status:
    """A server that answers `running` requests at once."""
    requests = (
        *(decoding(number) for number in range(running - 1)),
        *(PREFILLING, *(waiting(number) for number in range(queued))),
    )
    prefixes = replace(
        IDLE.engine.figures,
        prefix_entries=12,
        prefix_bytes=int(1.2 * GB),
        prefix_hits=40,
        prefix_hit_tokens=90_000,
    )
    return replace(
        IDLE,
        engine=replace(IDLE.engine, figures=prefixes, requests=requests),
        conversations=tuple(talks(number) for number in range(5)),
        rates={
            "1s": Rates(decode=84, prefill=1_320),
            "10s": Rates(decode=81, prefill=990, prompt=2_300),
            "60s": Rates(decode=76, prefill=800, requests_per_minute=34, errors_per_minute=1),
        },
        totals=Totals(requests=900, prompt_tokens=100_000, cached_tokens=63_000),
    )


BUSY = crowded(6)


def with_engine(status: Status, **changes: object) -> Status:
    """The status with other facts of its engine."""
    return replace(status, engine=replace(status.engine, **changes))


def with_running(*requests: RequestStatus) -> Status:
    """The busy server, where these run."""
    return with_engine(BUSY, requests=(*requests, *BUSY.waiting))


def restarting() -> Status:
    """The engine process was killed and is coming back."""
    why = "it made no progress for 60 s"
    engine = replace(
        BUSY.engine,
        state="restarting",
        reason=why,
        restarts=2,
        last_restarts=(Restart(NOW - 400, "it died"), Restart(NOW - 4, why)),
    )
    server = replace(BUSY.server, health="restarting", reason=why)
    return replace(BUSY, engine=engine, server=server)


HISTORY = ThroughputHistory(
    tuple(
        Second(NOW - 240 + at, 40 + 30 * (at % 60 < 40), 900 if at % 45 < 12 else 0)
        for at in range(240)
    )
)


def event(
    kind: str,
    message: str,
    *,
    request: str = "",
    level: Literal["info", "warning", "error"] = "info",
) -> Lifecycle:
    """Something that happened just now."""
    return Lifecycle(kind=kind, at=NOW, message=message, request=request, level=level)
