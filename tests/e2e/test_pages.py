"""What README and docs tell people to type is typed: shell, Python, configurations, scripts."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.support import Served, serve
from tests.test_docs import PAGES

pytestmark = [pytest.mark.process, pytest.mark.client]

LIMIT = 120.0
ADDRESS = "127.0.0.1:8484"
"""Where a server is on the pages."""
TOML = '[models.demo]\nsource = "demo"\n'
ELSEWHERE = {
    "make": "installs with the network",
    "mlxd chat\n": "takes a terminal",
    "mlxd chat --continue": "goes on with what was said before",
    "mlxd launch": "starts a program of others",
    "mlxd models": "asks the hub",
    "mlxd pull": "asks the hub",
    "mlxd run": "takes the demo model, or the network",
    "export": "is for programs of others",
}
"""Beginnings of shell blocks that are tried by other tests, and why."""
SHELL = re.compile(r"(mlxd (?!\d)|\w+=|cat |git |curl |make |export )")
OTHER_PROGRAMS = ("model_provider", "npm")
"""Keys of configurations that are not for mlxd."""


class Block(NamedTuple):
    """A code block of a page."""

    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    return [
        Block(page.name, language, text)
        for page in PAGES
        for language, text in re.findall(
            r"(?ms)^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8")
        )
    ]


def in_language(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def shell_scripts() -> list[Block]:
    """What is typed in blocks without a language; lines behind a prompt only, if there are any."""
    scripts = []
    for block in in_language(""):
        typed = "".join(re.findall(r"(?m)^\$ (.*\n)", block.text)) or block.text
        if SHELL.match(typed) and not typed.startswith(tuple(ELSEWHERE)):
            scripts.append(block._replace(text=typed))
    return scripts


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serve(folder, "--scripted", "agent", toml=TOML) as running:
        yield running


@pytest.fixture
def surroundings(served: Served, tmp_path: Path) -> dict[str, str]:
    """A shell's environment: a home of its own, `mlxd` and `python` found by name."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, options in (("python", ""), ("mlxd", "-m mlxd")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        (tools / name).chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLXD_")}
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(served.folder))
    return (
        ours
        | homes
        | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path.cwd()),
            "MLXD_URL": f"http://127.0.0.1:{served.port}",
            "MLXD_SERVER__PORT": str(served.port),
        }
    )


def run(argv: list[str], folder: Path, surroundings: dict[str, str]) -> str:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", shell_scripts(), ids=lambda block: f"{block.page}")
def test_what_is_typed_in_a_shell_works(
    block: Block, served: Served, surroundings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("Buy milk.\n")
    script = block.text.replace(ADDRESS, f"127.0.0.1:{served.port}")
    script = script.replace("admin-8484", f"admin-{served.port}")
    begin = "set -e\ngit init -q .\n"
    assert run(["bash", "-c", begin + script], tmp_path, surroundings)


def test_python_of_a_page_runs(
    served: Served, surroundings: dict[str, str], tmp_path: Path
) -> None:
    for page in {block.page for block in in_language("python")}:
        parts = [block.text for block in in_language("python") if block.page == page]
        script = "\n".join(parts).replace(ADDRESS, f"127.0.0.1:{served.port}")
        assert run([sys.executable, "-c", script], tmp_path, surroundings)


def test_configurations_are_as_mlxd_wants_them(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    written = [
        block.text
        for block in in_language("toml")
        if not tomllib.loads(block.text).keys() & set(OTHER_PROGRAMS)
    ]
    assert written
    for text in written:
        (tmp_path / "mlxd.toml").write_text(text, encoding="utf-8")
        shown = run([sys.executable, "-m", "mlxd", "config", "show"], tmp_path, surroundings)
        assert str(tmp_path / "mlxd.toml") in shown


def test_json_of_a_page_is_json() -> None:
    for block in in_language("json"):
        json.loads(block.text.replace("[ … ]", "[]").replace("{ … }", "{}"))


def test_the_script_of_a_page_is_played(tmp_path: Path) -> None:
    (script,) = [block.text for block in in_language("json") if block.page == "scripts.md"]
    (tmp_path / "script.json").write_text(script, encoding="utf-8")
    with serve(tmp_path, "--scripted", "script.json") as running:
        assert "serves http://127.0.0.1" in running.announcement


def test_blocks_are_found() -> None:
    assert {block.page for block in shell_scripts()} >= {"README.md", "chat.md", "admin.md"}
