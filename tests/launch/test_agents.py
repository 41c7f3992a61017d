"""The table of agents: what holds for each of its rows."""

import json
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlxd.launch.agent import KEY, Agent, Command, Endpoint, Places, environment_for
from mlxd.launch.agents import AGENTS, agent_named
from mlxd.launch.by_hand import addition_by_hand, launch_by_hand
from mlxd.launch.user_file import add, undo

SECRET = "s3cret-key"
OPEN = Endpoint("http://127.0.0.1:8484", "small", 40_000)
KEYED = replace(OPEN, key=SECRET)

USERS: dict[str, str] = {
    ".json": '{\n    "theme": "mine",\n    "list": [1,2,  3]\n}\n',
    ".yaml": "# mine\n- model_id: mine\n  model_name: x\n",
    ".toml": '# mine\nproviders = []\n\n[env]\nA = "b"   # why\n',
}


def places(home: Path) -> Places:
    return Places(home, home / "state" / "launch", {})


def commands(agent: Agent, to: Endpoint, at: Places) -> Iterator[Command]:
    yield agent.addition(to.shown, at).use
    if agent.start:
        yield agent.start(to, at)


ALL = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
EDITED = pytest.mark.parametrize(
    "agent",
    [agent for agent in AGENTS if agent.addition(OPEN, places(Path("home"))).edit],
    ids=lambda agent: agent.name,
)


def test_every_name_is_one_agents() -> None:
    names = [name for agent in AGENTS for name in (agent.name, *agent.also)]
    assert len(set(names)) == len(names)
    for agent in AGENTS:
        for name in (agent.name, *agent.also):
            assert agent_named(name) is agent
    assert agent_named("nobody") is None


@ALL
def test_a_key_goes_into_the_environment_and_files_of_ours_alone(
    agent: Agent, tmp_path: Path
) -> None:
    at = places(tmp_path)
    for command in commands(agent, KEYED, at):
        assert not any(SECRET in word for word in command.words)
        assert all(file.is_relative_to(at.own) for file in command.files)
    shown = agent.addition(KEYED.shown, at)
    assert SECRET not in shown.block
    assert SECRET not in addition_by_hand(agent, KEYED, at) + launch_by_hand(agent, KEYED, at)
    if agent.start:
        started = agent.start(KEYED, at)
        held = [*started.environment.values(), *started.files.values()]
        assert any(SECRET in each for each in held)
        # Nobody's file may hold it, so that what is launched has it from us.
        assert SECRET not in json.dumps(
            [started.environment.get("OPENCODE_CONFIG_CONTENT"), list(started.words)]
        )


@ALL
def test_it_is_told_the_address_the_model_and_mostly_the_window(
    agent: Agent, tmp_path: Path
) -> None:
    at = places(tmp_path)
    for command in commands(agent, OPEN, at):
        said = json.dumps([list(command.words), dict(command.environment)])
        said += "".join(command.files.values()) + agent.addition(OPEN, at).block
        assert OPEN.url in said
        assert OPEN.model in said
    tells_window = agent.addition(OPEN, at).block + said
    assert ("40000" in tells_window) == (agent.name not in ("cline", "llm", "gptme"))


@ALL
def test_what_is_shown_is_for_a_shell(agent: Agent, tmp_path: Path) -> None:
    at = places(tmp_path)
    for shown in (launch_by_hand(agent, KEYED, at), addition_by_hand(agent, KEYED, at)):
        lines = shown.rstrip().splitlines()
        assert shlex.split(lines[-1])[0] == agent.program
        assert str(tmp_path) not in shown


@EDITED
@pytest.mark.parametrize("to", [OPEN, KEYED.shown], ids=["open", "keyed"])
def test_a_users_own_file_has_one_entry_more_and_then_none(
    agent: Agent, to: Endpoint, tmp_path: Path
) -> None:
    at = places(tmp_path)
    addition = agent.addition(to, at)
    assert addition.edit is not None
    text = users_text(agent, addition.file)
    if text is not None:
        addition.file.parent.mkdir(parents=True)
        addition.file.write_text(text)
    assert add(addition.file, addition.edit, at.own)
    assert not add(addition.file, addition.edit, at.own)
    written = addition.file.read_text()
    assert parsed(addition.file)
    # The block that people see is what is written.
    assert addition.edit.entry(written) == addition.edit.entry(addition.block)
    undo(addition.edit, at.own)
    assert (addition.file.read_text() if addition.file.exists() else None) == text


def users_text(agent: Agent, file: Path) -> str | None:
    """What a user may have in there; None where the file is all ours."""
    if file.name.startswith("mlxd."):
        return None
    return '[{"name": "mine"}]' if agent.name == "vscode" else USERS[file.suffix]


def parsed(file: Path) -> Any:
    readers: dict[str, Any] = {
        ".json": json.loads,
        ".yaml": yaml.safe_load,
        ".toml": tomllib.loads,
    }
    return readers[file.suffix](file.read_text())


@ALL
def test_files_of_ours_can_be_read_by_what_they_are_for(agent: Agent, tmp_path: Path) -> None:
    for command in commands(agent, OPEN, places(tmp_path)):
        for file, text in command.files.items():
            assert yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)


def test_the_environment_is_the_users_but_for_what_would_lead_elsewhere() -> None:
    command = Command(("x",), {"BASE": "here"}, unset=("OTHER_KEY",))
    users = {"BASE": "there", "OTHER_KEY": "k", "HOME": "h", "NO_PROXY": "mine"}
    assert environment_for(command, OPEN, users) == {
        "BASE": "here",
        "HOME": "h",
        "NO_PROXY": "mine",
    }
    behind_proxy = environment_for(command, OPEN, {**users, "https_proxy": "http://p"})
    assert behind_proxy["NO_PROXY"] == behind_proxy["no_proxy"] == "mine,127.0.0.1"


def test_an_answer_has_a_quarter_of_a_small_window() -> None:
    assert [replace(OPEN, window=window).answer for window in (2, 4096, 10**6)] == [1, 1024, 8192]


def test_folders_that_variables_name_are_used(tmp_path: Path) -> None:
    at = Places(
        tmp_path, tmp_path, {"CODEX_HOME": "/elsewhere", "XDG_CONFIG_HOME": "/config"}, mac=True
    )
    files = {agent.name: agent.addition(OPEN, at).file for agent in AGENTS}
    assert files["codex"] == Path("/elsewhere/mlxd.config.toml")
    assert files["opencode"] == Path("/config/opencode/opencode.json")
    assert files["vscode"].is_relative_to(tmp_path / "Library/Application Support")
    assert KEY in codex_profile(at)


def codex_profile(at: Places) -> str:
    agent = agent_named("codex")
    assert agent
    profile = tomllib.loads(agent.addition(OPEN, at).block)
    assert profile["model_context_window"] == OPEN.window
    return str(profile["model_providers"]["mlxd"]["env_key"])
