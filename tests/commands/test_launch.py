"""`mlxd launch`: an agent on a server, with nothing of its own changed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Served, serve
from tests.environment import Shell, spawn
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.process

SECRET = "s3cret-key"
SERVED = """
[models.small]
source = "demo"
aliases = ["gpt-5-local", "second"]
context_length = 30000

[models.claude-like]
source = "./other"
context_length = 2000
aliases = ["tight"]

[server]
api_keys = ["s3cret-key"]
"""
AGENT = """#!/bin/sh
# Says how it was called, in lines.
for word in "$@"; do echo "word $word"; done
env | grep -E '^(OPENAI|ANTHROPIC|MLXD_API|OPENCODE|USERS)'
exit 7
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        with serve(folder, "--scripted", "agent", toml=SERVED) as served:
            yield served


@pytest.fixture
def surroundings(server: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder, the server's state and its key, and a `bin` for agents."""
    use(monkeypatch, server.folder / "state")
    Path("mlxd.toml").write_text(SERVED + f"port = {server.port}\n", encoding="utf-8")
    return tmp_path / "home"


def use(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    (home := Path(os.environ["HOME"])).mkdir(exist_ok=True)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (programs := home.parent / "bin").mkdir()
    for name in ("claude", "opencode", "pi"):
        (programs / name).write_text(AGENT, encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def files(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()
    }


def test_an_agent_takes_the_place_of_the_command(surroundings: Path) -> None:
    (surroundings / ".claude.json").write_text("{mine")
    started = spawn(
        *("launch", "claude", "--", "-p", "what now?"), ANTHROPIC_API_KEY="users", USERS="kept"
    )
    assert (started.returncode, started.stderr) == (7, "")
    lines = started.stdout.splitlines()
    assert lines[:3] == ["word --permission-mode", "word default", "word --settings"]
    assert lines[4:6] == ["word -p", "word what now?"]
    assert {f"ANTHROPIC_AUTH_TOKEN={SECRET}", "ANTHROPIC_MODEL=small", "USERS=kept"} <= {*lines}
    assert not any(line.startswith("ANTHROPIC_API_KEY") for line in lines)
    assert SECRET not in Path(lines[3].removeprefix("word ")).read_text()
    assert files(surroundings) == {".claude.json": "{mine"}


def test_a_window_below_the_first_prompt_and_odd_names_stop_it(
    surroundings: Path, mlxd: Shell
) -> None:
    for name in ("claude-like", "gpt-5-local", "Opus"):
        refused = mlxd("launch", "claude", "--model", name)
        assert (refused.code, "send other tools" in refused.err) == (2, True)
    small = mlxd("launch", "claude", "--model", "tight")
    assert (small.code, "tight has a window of 2000 tokens" in small.err) == (1, True)
    assert mlxd("launch", "claude", "--model", "second", "--print").out.endswith("settings.json\n")
    unknown = mlxd("launch", "opencode", "--model", "missing")
    assert unknown.code == 2
    assert "has no missing. It has: small, gpt-5-local, second, claude-like, tight." in unknown.err
    absent = mlxd("launch", "goose")
    assert (absent.code, "brew install" in absent.err) == (4, True)
    assert "--config-only" in mlxd("launch", "zed").err
    for odd in (("pi", "--json"), ("pi", "--undo", "--print"), ()):
        assert mlxd("launch", *odd).code == 2
    nobody = mlxd("launch", "cloude")
    assert (nobody.code, 'Did you mean "claude"?' in nobody.err) == (2, True)


def test_an_entry_is_put_there_shown_and_taken_back(surroundings: Path, mlxd: Shell) -> None:
    config = surroundings / ".config" / "opencode" / "opencode.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"model": "mine/best"}')
    for said in ("added mlxd", "has mlxd already"):
        done = mlxd("launch", "opencode", "--config-only")
        assert (done.code, said in done.err) == (0, True)
        assert done.out.splitlines()[-1] == "opencode -m mlxd/small"
    written: dict[str, Any] = json.loads(config.read_text())
    assert written["model"] == "mine/best"
    assert written["provider"]["mlxd"]["models"]["small"]["limit"]["context"] == 30000
    assert SECRET not in config.read_text()
    shown = mlxd("launch", "opencode", "--config-only", "--print")
    assert json.loads(shown.out.partition("\n")[2].partition("\n\n")[0])["provider"].keys() == {
        "mlxd"
    }
    assert mlxd("launch", "opencode", "--undo").out.startswith("Took mlxd out of")
    assert config.read_text() == '{"model": "mine/best"}'
    assert "nothing of mlxd" in mlxd("launch", "opencode", "--undo").out


def test_a_file_that_is_left_alone_has_its_block_shown(surroundings: Path, mlxd: Shell) -> None:
    config = surroundings / ".config" / "opencode" / "opencode.json"
    config.parent.mkdir(parents=True)
    config.write_text("{\n  // mine\n}")
    done = mlxd("launch", "opencode", "--config-only")
    assert (done.code, "was not touched" in done.err) == (1, True)
    assert '"baseURL"' in done.out
    assert files(surroundings) == {".config/opencode/opencode.json": "{\n  // mine\n}"}
    zed = mlxd("launch", "zed", "--config-only")
    assert (zed.code, "openai_compatible" in zed.out) == (0, True)


def test_an_agent_that_needs_its_own_file_asks_before(surroundings: Path, mlxd: Shell) -> None:
    asked = mlxd("launch", "pi")
    assert (asked.code, "--yes puts it there" in asked.err) == (1, True)
    assert files(surroundings) == {}
    assert spawn("launch", "pi", "--yes").returncode == 7
    models = surroundings / ".pi" / "agent" / "models.json"
    models.write_text(models.read_text().replace("30000", "20000"))
    by_hand = spawn("launch", "pi")
    assert (by_hand.returncode, "used as it is" in by_hand.stderr) == (7, True)
    assert "20000" in models.read_text()
    mlxd("launch", "pi", "--undo")
    assert files(surroundings) == {}


def test_the_agents_are_listed_for_people_and_programs(surroundings: Path, mlxd: Shell) -> None:
    listed = {each["name"]: each for each in json.loads(mlxd("launch", "--list", "--json").out)}
    assert listed["pi"]["program"].endswith("/bin/pi")
    assert (listed["goose"]["program"], listed["zed"]["starts"]) == (None, False)
    assert mlxd("launch", "--list").out.splitlines()[0].split() == [
        *("claude", "Claude", "Code", "installed")
    ]


def test_without_a_server_one_is_started_and_stopped_behind_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path / "state")
    make_tiny_model(Path("tiny"))
    Path("mlxd.toml").write_text(
        '[models.tiny]\nsource = "./tiny"\ncontext_length = 512\n[server]\nport = 0\n'
    )
    on_paper = spawn("launch", "claude", "--print")
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS=512" in on_paper.stdout
    assert not list((tmp_path / "state" / "mlxd").glob("*"))
    started = spawn("launch", "claude", "--force")
    assert started.returncode == 7, started.stderr
    assert "ANTHROPIC_AUTH_TOKEN=unused" in started.stdout
    assert list((tmp_path / "state" / "mlxd").glob("admin-*.json")) == []
