"""The engine process with the tiny random-weight model, behind its supervisor."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import (
    ContextTooLong,
    EngineCrashed,
    InvalidField,
    ModelNotFound,
    ModelUnusable,
    OutOfMemory,
    revive,
)
from mlxd.events import Answer, Collector, Event, Failed, OrderChecker, Progress, Started
from mlxd.messages import GenerateRequest, Message, Sampling, Source, Text, Tool
from tests.engine.support import LIMIT
from tests.tiny_model import OPEN_THINK_TEMPLATE, make_tiny_model

MARKUP_IDS = range(295, 304)
"""The tiny model's end tokens and tags: without them its answers are as long as they may be."""
NEVER = dict.fromkeys(MARKUP_IDS, -100.0)
GREEDY = Sampling(temperature=0, logit_bias=NEVER)
LONG = "word " * 300

pytestmark = [pytest.mark.mlx, pytest.mark.asyncio(loop_scope="module")]


def ask(
    text: str = "Hello world",
    *,
    model: str = "tiny",
    max_tokens: int = 8,
    sampling: Sampling = GREEDY,
    key: str = "",
    **more: object,
) -> GenerateRequest:
    request = GenerateRequest(
        id="test",
        model=model,
        messages=(Message("user", (Text(text),)),),
        max_tokens=max_tokens,
        sampling=sampling,
        source=Source(dialect="test", key=key),
    )
    return msgspec.structs.replace(request, **more)


async def events_of(engine: Supervisor, request: GenerateRequest) -> list[Event]:
    checker, events = OrderChecker(), list[Event]()
    async with engine.generate(request) as generation:
        async for batch in generation:
            for event in batch:
                checker.add(event)
                events.append(event)
    checker.close()
    return events


async def answer_of(engine: Supervisor, request: GenerateRequest) -> Answer:
    collector = Collector()
    for event in await events_of(engine, request):
        collector.add(event)
    assert collector.answer is not None
    return collector.answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervisor]:
    """Rows don't depend on their neighbours only with the reference BLAS."""
    plain = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    thinker = make_tiny_model(tmp_path_factory.mktemp("thinker"), template=OPEN_THINK_TEMPLATE)
    os.environ["MLXD_BLAS"] = "reference"
    engine = Supervisor(
        (
            ModelSpec(id="tiny", source=str(plain)),
            ModelSpec(id="thinker", source=str(thinker)),
            ModelSpec(id="missing", source=str(plain / "nowhere")),
        ),
        EngineLimits(max_batch=8, prefix_cache_bytes=10**8),
        preload="tiny",
        stall_timeout=20,
        load_timeout=60,
    )
    await engine.start()
    yield engine
    await engine.stop(1)
    del os.environ["MLXD_BLAS"]


async def test_a_model_in_a_loop_is_cut_where_tools_are_offered(engine: Supervisor) -> None:
    loops = Sampling(temperature=0, logit_bias={**NEVER, 65: 100.0})
    asked = ask(max_tokens=700, sampling=loops)
    plain = await answer_of(engine, asked)
    assert (plain.finished.outcome, plain.finished.usage.completion) == ("length", 700)
    guarded = await answer_of(engine, msgspec.structs.replace(asked, tools=(Tool(name="lamp"),)))
    assert (guarded.finished.reason, guarded.finished.outcome) == ("length", "repetition")
    assert 512 <= guarded.finished.usage.completion < 600


async def test_an_answer_is_one_well_formed_stream(engine: Supervisor) -> None:
    events = await events_of(engine, ask())
    assert isinstance(events[0], Started)
    assert events[0].prompt_tokens > 5
    answer = await answer_of(engine, ask())
    assert answer.finished.reason == "length"
    assert answer.finished.usage.completion == 8
    assert not answer.finished.window
    assert answer.finished.timings.decode > 0


async def test_a_repeat_is_cached_and_says_the_same(engine: Supervisor) -> None:
    request = ask(LONG)
    first, second = [await answer_of(engine, request) for _ in range(2)]
    assert first.text == second.text
    assert first.finished.usage.cached < 10
    assert second.finished.usage.cached == second.finished.usage.prompt - 1


async def test_keys_never_share_a_prefix(engine: Supervisor) -> None:
    secret = LONG + " secret"
    await answer_of(engine, ask(secret, key="alice"))
    assert (await answer_of(engine, ask(secret, key="bob"))).finished.usage.cached == 0
    assert (await answer_of(engine, ask(secret, key="alice"))).finished.usage.cached > 0


async def test_prefill_progress_rises_to_the_whole_prompt(engine: Supervisor) -> None:
    events = await events_of(engine, ask(LONG + "fresh"))
    done = [e.done for e in events if isinstance(e, Progress) and e.phase == "prefill"]
    assert done == sorted(done)
    assert done[-1] == events[0].prompt_tokens  # type: ignore[union-attr]  # Started comes first


async def test_many_at_once_are_what_each_would_be_alone(engine: Supervisor) -> None:
    requests = [
        ask(
            f"question {n}",
            sampling=Sampling(temperature=0.9, top_p=0.9, seed=n, logit_bias=NEVER),
            max_tokens=12,
        )
        for n in range(12)
    ]
    alone = [(await answer_of(engine, request)).text for request in requests]
    together = await asyncio.gather(*(answer_of(engine, request) for request in requests))
    assert [answer.text for answer in together] == alone


async def test_a_prompt_that_opens_reasoning_starts_in_reasoning(engine: Supervisor) -> None:
    answer = await answer_of(engine, ask(model="thinker"))
    assert answer.reasoning
    assert answer.text == ""
    assert answer.finished.usage.reasoning == 8


async def test_counting_gives_the_prompt_tokens_of_a_real_call(engine: Supervisor) -> None:
    tool = Tool("look", "Looks.", json.dumps({"type": "object", "properties": {}}))
    request = ask("Count me", tools=(tool,))
    answer = await answer_of(engine, request)
    assert await engine.count_tokens(request) == answer.finished.usage.prompt


async def test_counts_do_not_wait_for_generation(engine: Supervisor) -> None:
    async with engine.generate(ask(max_tokens=1500)) as generation:
        await anext(generation)
        async with asyncio.timeout(LIMIT):
            counts = await asyncio.gather(*(engine.count_tokens(ask(f"q {n}")) for n in range(25)))
    assert len(set(counts)) <= 2


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ask("long " * 3000), ContextTooLong),
        (ask(sampling=Sampling(logit_bias={10**6: 1.0})), InvalidField),
        (ask(model="nobody"), ModelNotFound),
        (ask(model="missing"), ModelUnusable),
        (ask(template_args={"return_tensors": "np"}), InvalidField),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_what_cannot_be_served_is_refused_on_entry(
    engine: Supervisor, request_: GenerateRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with engine.generate(request_):
            pass
    assert (await answer_of(engine, ask())).finished.reason == "length"


async def test_the_limit_is_clamped_to_the_window(engine: Supervisor) -> None:
    answer = await answer_of(engine, ask("word " * 950, max_tokens=10**6))
    usage = answer.finished.usage
    assert usage.prompt + usage.completion == 2048
    assert (answer.finished.reason, answer.finished.window) == ("length", True)


async def test_leaving_frees_the_slot(engine: Supervisor) -> None:
    async with engine.generate(ask(max_tokens=2000)) as generation:
        await anext(generation)
    async with asyncio.timeout(LIMIT):
        while engine.status().requests:
            await answer_of(engine, ask(max_tokens=1))
    assert engine.status().restarts == 0


async def test_models_are_loaded_and_unloaded_by_name(engine: Supervisor) -> None:
    await engine.load("thinker")
    states = {info.id: info.state for info in engine.models()}
    assert (states["tiny"], states["thinker"]) == ("loaded", "loaded")
    await engine.unload("thinker")
    assert {info.id: info.state for info in engine.models()}["thinker"] == "unloaded"
    assert (await answer_of(engine, ask(model="thinker"))).reasoning
    with pytest.raises(ModelUnusable):
        await engine.load("missing")


async def test_a_model_is_unloaded_in_the_moment_in_which_its_last_caller_leaves(
    engine: Supervisor,
) -> None:
    before = engine.status().restarts
    for _ in range(5):
        async with engine.generate(ask(max_tokens=2000)) as generation:
            await anext(generation)
        await engine.unload("tiny")
        await answer_of(engine, ask())
    assert engine.status().restarts == before


async def test_a_killed_process_costs_a_clear_error_and_comes_back(engine: Supervisor) -> None:
    async with engine.generate(ask(max_tokens=2000)) as generation:
        await anext(generation)
        # Not before: alone this test is the first, and the process that is to die not there yet.
        before = engine.status()
        os.kill(before.pid, signal.SIGKILL)
        last = [batch[-1] async for batch in generation][-1]
    assert isinstance(last, Failed)
    assert isinstance(revive(last.error), EngineCrashed)
    assert (await answer_of(engine, ask())).finished.reason == "length"
    after = engine.status()
    assert (after.restarts, after.state) == (before.restarts + 1, "ready")
    assert after.pid != before.pid


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervisor]:
    """One with memory for either of two models, and for none of a third."""
    folder = tmp_path_factory.mktemp("tight")
    words = [f"<word {number}>" for number in range(2000)]
    sources = {
        "tiny": make_tiny_model(folder / "tiny"),
        "other": make_tiny_model(folder / "other"),
        "large": make_tiny_model(folder / "large", extra_tokens=words),
    }
    engine = Supervisor(
        tuple(ModelSpec(id=name, source=str(source)) for name, source in sources.items()),
        EngineLimits(memory_bytes=700_000),
        preload=None,
        stall_timeout=20,
        load_timeout=60,
    )
    await engine.start()
    yield engine
    await engine.stop(0)


async def test_models_that_fit_one_at_a_time_take_turns(tight: Supervisor) -> None:
    async with asyncio.timeout(LIMIT):
        steady = [
            asyncio.create_task(answer_of(tight, ask(model=name, max_tokens=60)))
            for name in ("tiny", "other") * 4
        ]
        counted = await tight.count_tokens(ask(model="other"))
        answers = await asyncio.gather(*steady)
    assert counted > 0
    assert {answer.finished.reason for answer in answers} == {"length"}
    assert tight.status().restarts == 0


async def test_a_model_larger_than_the_memory_is_refused(tight: Supervisor) -> None:
    with pytest.raises(ModelUnusable, match="its weights take"):
        await answer_of(tight, ask(model="large"))


async def test_a_prompt_without_memory_for_it_is_refused(tight: Supervisor) -> None:
    needs = r"of \d+ tokens takes [\d.]+ MB, and there are [\d.]+ MB, enough for \d+ tokens"
    with pytest.raises(OutOfMemory, match=needs):
        await answer_of(tight, ask("word " * 950))
    assert (await answer_of(tight, ask("hi"))).finished.usage.completion > 0


async def test_what_is_configured_anew_is_for_later_requests(
    engine: Supervisor, tmp_path: Path
) -> None:
    before = engine.models()
    specs = [ModelSpec(id=model.id, source=model.source) for model in before]
    limits = EngineLimits(max_batch=8, prefix_cache_bytes=10**8)
    shorter = msgspec.structs.replace(
        specs[0], max_tokens=3, sampling=Sampling(temperature=0.0, top_k=1), aliases=("t",)
    )
    fresh = ModelSpec(id="fresh", source=str(make_tiny_model(tmp_path)))
    bare = ask(max_tokens=None, sampling=Sampling(logit_bias=NEVER))  # type: ignore[arg-type]  # None: as configured
    try:
        async with engine.generate(msgspec.structs.replace(bare, max_tokens=40)) as generation:
            (started, *_) = await anext(generation)
            engine.configure((shorter, fresh), limits, preload="tiny")
            spoken = [event async for batch in generation for event in batch]
        assert isinstance(started, Started)
        assert spoken[-1].usage.completion == 40  # type: ignore[union-attr]  # it has finished
        events = await events_of(engine, bare)
        assert events[-1].usage.completion == 3  # type: ignore[union-attr]  # as above
        assert events[0].sampling.top_k == 1  # type: ignore[union-attr]  # Started comes first
        assert (await answer_of(engine, ask(model="fresh"))).finished.reason == "length"
        with pytest.raises(ModelNotFound):
            await answer_of(engine, ask(model="thinker"))
    finally:
        engine.configure(tuple(specs), limits, preload="tiny")
    assert (await answer_of(engine, ask(model="thinker"))).reasoning
