"""Fixtures for every test: settings, a scripted engine behind the application, and a closed world.

No test reaches a network: connecting to anything but this machine is an error.
"""

import asyncio
import gc
import ipaddress
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest
from quart.typing import TestClientProtocol

from mlxd.api.app import create_app
from mlxd.api.http.framework import Api
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import ScriptedEngine
from tests.scripts import SCRIPTS

# Engine processes beside other tests: two threads of a BLAS that wait for each other on busy cores
# take several times as long as one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What is shown of commands is for a shell that finds this program by its name.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the transcripts of tests/api/golden anew instead of comparing with them",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m "not mlx and not client"` modules of such tests alone are not imported either.

    Importing MLX and the vendors' clients takes seconds, only to deselect what was found there.
    """
    expression = config.getoption("markexpr")
    if collection_path.suffix != ".py" or not re.fullmatch(r"not \w+( and not \w+)*", expression):
        return None
    marked = re.search(r"^pytestmark = .*?\n\n", collection_path.read_text("utf-8"), re.M | re.S)
    marks = re.findall(r"pytest\.mark\.(\w+)", marked[0] if marked else "")
    # None leaves it to the other hooks.
    return bool(set(marks) & set(re.findall(r"not (\w+)", expression))) or None


def pytest_collection_finish() -> None:
    """Thousands of collected tests and their modules stay; looking through them takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _is_this_machine(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stay_here(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _is_this_machine(str(address[0])):
        raise AssertionError(f"a test connects to {address[0]}")


sys.addaudithook(_stay_here)


@pytest.fixture
def settings() -> Settings:
    """The defaults."""
    return Settings()


@pytest.fixture
async def clean_loop() -> AsyncIterator[None]:
    """Nothing that a test began goes on after it."""
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(30):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)


@pytest.fixture
def engine() -> ScriptedEngine:
    """Answers everything with a friendly sentence."""
    return ScriptedEngine(lambda _: SCRIPTS["text"])


@pytest.fixture
def app(settings: Settings, engine: ScriptedEngine, clean_loop: None) -> Api:
    """The application on that engine."""
    return create_app(settings, engine)


@pytest.fixture
def client(app: Api) -> TestClientProtocol:
    """A client of that application."""
    return app.test_client()
