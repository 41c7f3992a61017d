"""Models whose code ends, crashes or hangs the process: the others go on, or come back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import EngineCrashed, EngineStalled, InternalError, ModelUnusable, revive
from mlxd.events import Failed
from tests.engine.process.test_engine import answer_of, ask, events_of
from tests.own_code import LLAMA, with_code
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.mlx, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 120.0
AT_IMPORT = "{}\n" + LLAMA + "Model = Llama\n"
AT_LOAD = LLAMA + "class Model(Llama):\n  def sanitize(self, weights):\n    {}\n"
AT_STEP = (
    LLAMA + "class Model(Llama):\n  def __call__(self, *args, **more):\n"
    "    {}\n    return super().__call__(*args, **more)\n"
)
AT_CACHE = LLAMA + "class Model(Llama):\n  def make_cache(self):\n    {}\n"
LATER = """
class Model(Llama):
  def __call__(self, *args, **more):
    if os.path.exists({flag!r}):
      raise {error}
    return super().__call__(*args, **more)
"""
RAISING: Mapping[str, tuple[str, str]] = {
    "exit at import": (AT_IMPORT.format("exit(1)"), "ends the process .SystemExit: 1"),
    "exit with words": (AT_IMPORT.format("exit('install colours')"), "install colours"),
    "sys.exit at load": (AT_LOAD.format("sys.exit()"), "SystemExit"),
    "an interrupt": (AT_IMPORT.format("raise KeyboardInterrupt"), "KeyboardInterrupt"),
    "a generator's end": (AT_LOAD.format("raise GeneratorExit"), "GeneratorExit"),
    "a missing package": (AT_IMPORT.format("import colours"), "No module named 'colours'"),
    "no code at all": ("def", "invalid syntax|expected"),
    "an own kind of end": (
        AT_IMPORT.format("class End(BaseException): pass\nraise End('over')"),
        "End: over",
    ),
    "a path of this machine": (
        AT_IMPORT.format("raise OSError('no room for /home/ann/own.bin, see ../own/a.md or a/b')"),
        r"no room for own\.bin, see \.\./own/a\.md or a/b",
    ),
    "endless recursion": (AT_LOAD.format("return self.sanitize(weights)"), "recursion"),
    "exit in the warm-up": (AT_STEP.format("sys.exit(2)"), "SystemExit: 2"),
    "exit when a cache is made": (AT_CACHE.format("sys.exit(3)"), "SystemExit: 3"),
}
FAILING = ("SystemExit(1)", "KeyboardInterrupt", "ValueError('odd')")
"""What steps end with, by which the models that do so are called, too."""
CRASHING: Mapping[str, str] = {
    "os._exit at import": AT_IMPORT.format("import os; os._exit(3)"),
    "a bad address at load": AT_LOAD.format("import ctypes; ctypes.string_at(0)"),
    "an abort in the warm-up": AT_STEP.format("os.abort()"),
}


@asynccontextmanager
async def engine_of(
    folder: Path, codes: Mapping[str, str], *, load_timeout: float = 60.0
) -> AsyncIterator[Supervisor]:
    """An engine with the model `tiny`, which is loaded, and one for each code."""
    specs = [ModelSpec(id="tiny", source=str(make_tiny_model(folder / "good")))]
    for number, (name, code) in enumerate(codes.items()):
        source = with_code(folder / f"own{number}", code)
        specs.append(ModelSpec(id=name, source=str(source), trust_remote_code=bool(code)))
    engine = Supervisor(
        tuple(specs),
        EngineLimits(prefix_cache_bytes=10**8),
        preload="tiny",
        stall_timeout=20,
        load_timeout=load_timeout,
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(0)


@dataclass(frozen=True)
class Shared:
    """An engine whose models fail without an end of the process, and their folder."""

    engine: Supervisor
    folder: Path
    own: Mapping[str, Path]
    """The files with their code."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    folder = tmp_path_factory.mktemp("own")
    count = f"open({str(folder / 'tries')!r}, 'a').write('x')\nexit(1)"
    codes = {name: code for name, (code, _) in RAISING.items()}
    codes["counted"] = AT_IMPORT.format(count)
    for error in FAILING:
        codes[error] = LLAMA + LATER.format(flag=str(folder / "now"), error=error)
    codes["served"] = LLAMA + LATER.format(flag=str(folder / "later"), error=FAILING[-1])
    async with engine_of(folder, codes) as engine:
        files = {name: folder / f"own{at}" / "own.py" for at, name in enumerate(codes)}
        yield Shared(engine, folder, files)


def state_of(engine: Supervisor, name: str) -> tuple[str, str]:
    (info,) = [model for model in engine.models() if model.id == name]
    return info.state, info.reason


async def test_what_a_models_code_raises_makes_that_model_unusable_alone(shared: Shared) -> None:
    engine = shared.engine
    alone = (await answer_of(engine, ask())).text
    over = asyncio.Event()

    async def steadily() -> None:
        while not over.is_set():
            assert (await answer_of(engine, ask())).text == alone

    steady = [asyncio.create_task(steadily()) for _ in range(2)]
    async with asyncio.timeout(LIMIT):
        for name, (_, reason) in RAISING.items():
            with pytest.raises(ModelUnusable, match=reason) as refusal:
                await answer_of(engine, ask(model=name))
            assert str(shared.folder) not in str(refusal.value)
            assert state_of(engine, name) == ("failed", refusal.value.reason)
        over.set()
        await asyncio.gather(*steady)
    assert engine.status().restarts == 0


async def test_a_model_that_failed_is_not_read_again_before_its_files_change(
    shared: Shared,
) -> None:
    engine, tries = shared.engine, shared.folder / "tries"
    async with asyncio.timeout(LIMIT):
        for _ in range(3):
            with pytest.raises(ModelUnusable):
                await answer_of(engine, ask(model="counted"))
        assert tries.read_text() == "x"
        # An administrator may have installed what was missing.
        with pytest.raises(ModelUnusable):
            await engine.load("counted")
        assert tries.read_text() == "xx"
        shared.own["counted"].write_text(AT_IMPORT.format(""))
        assert (await answer_of(engine, ask(model="counted"))).finished.usage.completion == 8


async def test_steps_that_fail_end_their_requests_and_not_the_process(shared: Shared) -> None:
    engine = shared.engine
    async with asyncio.timeout(LIMIT):
        for name in FAILING:
            await engine.load(name)
        (shared.folder / "now").touch()
        for name in FAILING:
            for _ in range(2):
                async with engine.generate(ask(max_tokens=2000)) as good:
                    await anext(good)
                    last = (await events_of(engine, ask(model=name)))[-1]
                    assert isinstance(last, Failed)
                    assert isinstance(revive(last.error), InternalError)
                    assert await anext(good)
            with pytest.raises(ModelUnusable, match=f"steps fail with {name.split('(')[0]}"):
                await answer_of(engine, ask(model=name))
    assert engine.status().restarts == 0


async def test_a_model_that_has_served_is_loaded_anew_when_its_steps_fail(shared: Shared) -> None:
    engine, flag = shared.engine, shared.folder / "later"
    async with asyncio.timeout(LIMIT):
        served = await answer_of(engine, ask(model="served"))
        flag.touch()
        for _ in range(2):
            assert isinstance((await events_of(engine, ask(model="served")))[-1], Failed)
        assert state_of(engine, "served") == ("unloaded", "")
        flag.unlink()
        assert (await answer_of(engine, ask(model="served"))).text == served.text
    assert engine.status().restarts == 0


async def test_a_model_whose_code_crashes_costs_one_process_and_the_others_come_back(
    tmp_path: Path,
) -> None:
    async with engine_of(tmp_path, CRASHING) as engine, asyncio.timeout(LIMIT):
        for crashes, name in enumerate(CRASHING, start=1):
            await answer_of(engine, ask())
            with pytest.raises(EngineCrashed):
                await answer_of(engine, ask(model=name))
            assert (await answer_of(engine, ask())).finished.usage.completion == 8
            assert engine.status().restarts == crashes
        for name in CRASHING:
            with pytest.raises(ModelUnusable, match="lost while it was loading"):
                await answer_of(engine, ask(model=name))
            with pytest.raises(ModelUnusable, match="lost while it was loading"):
                await engine.load(name)
            assert state_of(engine, name)[0] == "failed"
        assert engine.status().restarts == len(CRASHING)
        (tmp_path / "own0" / "own.py").write_text(AT_IMPORT.format(""))
        repaired = next(iter(CRASHING))
        assert (await answer_of(engine, ask(model=repaired))).finished.usage.completion == 8
        assert state_of(engine, repaired) == ("loaded", "")
        # Who restarts the engine by hand has every model tried again.
        engine.restart("an administrator")
        assert {state_of(engine, name)[0] for name in CRASHING} == {"unloaded"}


async def test_an_import_that_hangs_makes_that_model_unusable_alone(tmp_path: Path) -> None:
    code = AT_IMPORT.format("import threading; threading.Event().wait()")
    async with (
        engine_of(tmp_path, {"hangs": code}, load_timeout=20.0) as engine,
        asyncio.timeout(LIMIT),
    ):
        await answer_of(engine, ask())
        with pytest.raises(EngineStalled):
            await answer_of(engine, ask(model="hangs"))
        assert (await answer_of(engine, ask())).finished.usage.completion == 8
        with pytest.raises(ModelUnusable, match="made no progress"):
            await answer_of(engine, ask(model="hangs"))
        assert engine.status().restarts == 1
