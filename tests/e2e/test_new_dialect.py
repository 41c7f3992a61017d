"""A dialect that mlxd has never heard of, served by `mlxd serve` after one entry in its table."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from mlxd.status import Status
from tests.api.support import json_lines
from tests.e2e.support import Served, serve
from tests.sources import ROOT

PROGRAM = f"""
import sys

sys.path.insert(0, {str(ROOT)!r})
from mlxd.dialects import DIALECTS

DIALECTS["toy"] = "tests.api.toy_ndjson:Toy"
from mlxd.cli import main

raise SystemExit(main())
"""
TOML = """
dialects = ["toy", "openai_chat"]
[admin]
token = "the-admin-token-of-this-test"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("toy")
    arguments = ("--scripted", "agent")
    with serve(folder, *arguments, toml=TOML, program=("-c", PROGRAM)) as running:
        yield running


def test_it_is_announced_with_its_base_path(served: Served) -> None:
    assert f"toy              http://127.0.0.1:{served.port}/toy\n" in served.announcement


def ask(served: Served, method: str, path: str, **options: Any) -> httpx.Response:
    url = f"http://127.0.0.1:{served.port}{path}"
    return httpx.request(method, url, timeout=30, trust_env=False, **options)


def test_it_streams_in_its_own_framing(served: Served) -> None:
    answer = ask(served, "POST", "/toy/say", json={"say": "Hello", "live": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    values = [json.loads(frame.data) for frame in json_lines(answer.content)]
    assert values[-2:] == [{"end": "stop"}, {"over": True}]
    assert any("Hello" in value.get("line", "") for value in values)


def test_its_errors_and_its_models_are_its_own(served: Served) -> None:
    refused = ask(served, "GET", "/toy/nothing")
    assert (refused.status_code, set(refused.json())) == (404, {"oops"})
    assert ask(served, "GET", "/toy/models").json() == {"models": ["demo"]}


def test_the_status_has_its_title(served: Served) -> None:
    key = {"authorization": "Bearer the-admin-token-of-this-test"}
    answer = ask(served, "GET", "/admin/status", headers=key)
    status = msgspec.json.decode(answer.content, type=Status)
    assert status.server.dialects["toy"] == "toy talk"
