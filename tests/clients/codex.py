"""Codex against a scripted server: a tool round trip with any kind of provider, errors.

Not part of `make test`, because it needs Codex, a program of some hundred megabytes from npm:

    python -m tests.clients.codex              # installs the version that was tested, once
    python -m tests.clients.codex --cli codex  # uses the one that you have

It gives Codex a home folder of its own and talks to nothing but a server on loopback.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.clients.checks import (
    ANSWER,
    LOOK,
    PATIENCE,
    QUESTION,
    TOML,
    WINDOW,
    Json,
    answered,
    expect,
    installed,
    look_at,
    passes,
    write_picture,
)
from tests.e2e.support import Served, serve

PACKAGE = "@openai/codex"
VERSION = "0.169.0"
CONFIG = """
model = "demo"
model_context_window = {window}
check_for_update_on_startup = false
approval_policy = "never"
sandbox_mode = "danger-full-access"
{provider}

[analytics]
enabled = false
"""
OURS = """
model_provider = "mlxd"

[model_providers.mlxd]
name = "mlxd"
base_url = "http://127.0.0.1:{port}/v1"
wire_api = "responses"
env_key = "MLXD_API_KEY"
{more}
"""
OVER_WEBSOCKET = OURS.replace("{more}", "supports_websockets = true")
BUILT_IN = 'openai_base_url = "http://127.0.0.1:{port}/v1"'
"""The provider that it comes with, at another address: it tries a WebSocket first."""

FAILURES = ("error", "turn.failed")
"""Events by which it tells of a reconnection, or gives up."""


@dataclass(frozen=True)
class Told:
    """What one run of Codex printed: its events, and the text of its last message."""

    events: list[Json]

    @property
    def last(self) -> str:
        items = [event["item"] for event in self.events if event["type"] == "item.completed"]
        said = [item["text"] for item in items if item["type"] == "agent_message"]
        return str(said[-1]) if said else ""

    @property
    def commands(self) -> list[str]:
        """What the commands that it ran printed."""
        items = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item["aggregated_output"] for item in items if item["type"] == "command_execution"]

    @property
    def errors(self) -> list[str]:
        """Reconnections and failures that it told of."""
        return [json.dumps(event) for event in self.events if event["type"] in FAILURES]


def main() -> int:
    """Run every check; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cli", help="an installed Codex, instead of one from npm")
    cli = parser.parse_args().cli or installed(PACKAGE, VERSION, "codex")
    return sum(not passes(check.__name__, partial(check, cli)) for check in CHECKS)


def a_tool_call_goes_round(cli: str, folder: Path) -> None:
    """It calls a tool, runs it, sends the result, and prints the answer to that."""
    goes_round(cli, folder, OURS.replace("{more}", ""))


def a_tool_call_goes_round_over_a_websocket(cli: str, folder: Path) -> None:
    """The same with a provider that is said to take a WebSocket."""
    goes_round(cli, folder, OVER_WEBSOCKET, prepared=True)


def a_tool_call_goes_round_with_the_built_in_provider(cli: str, folder: Path) -> None:
    """The same with OpenAI's own provider at this address, which takes a WebSocket if it can."""
    goes_round(cli, folder, BUILT_IN, prepared=True)


def a_full_window_is_understood(cli: str, folder: Path) -> None:
    """It knows the error for what it is, and does not try again."""
    is_full(cli, folder, OURS.replace("{more}", ""), refusals=1)


def a_full_window_is_understood_over_a_websocket(cli: str, folder: Path) -> None:
    """The same; what gets ready for the turn is refused too."""
    is_full(cli, folder, OVER_WEBSOCKET, refusals=2)


def an_engine_that_fails_is_asked_again(cli: str, folder: Path) -> None:
    """A turn that failed is tried again as a whole."""
    recovers(cli, folder, OURS.replace("{more}", ""))


def an_engine_that_fails_is_asked_again_over_a_websocket(cli: str, folder: Path) -> None:
    """The same: the history that the connection has forgotten is sent again."""
    recovers(cli, folder, OVER_WEBSOCKET)


def a_picture_does_not_end_the_session(cli: str, folder: Path) -> None:
    """It looks at a picture, which goes along with ten later turns, and all is well."""
    picture = write_picture(folder / "work")
    call = {"tool_call": {"name": "view_image", "arguments": {"path": str(picture)}}}
    provider = OURS.replace("{more}", "")
    with serve(
        folder, "--scripted", look_at(folder, call), toml=TOML.format(window=WINDOW)
    ) as server:
        first = ask(cli, folder, server, provider, question=LOOK)
        later = [
            ask(cli, folder, server, provider, "resume", "--last", question=f"Turn {turn}.")
            for turn in range(10)
        ]
        turns = answered(server)
    expect(not first.errors, first)
    expect([told.last for told in later] == ["Still here."] * 10, later)
    expect(all(turn["status"] == "200" for turn in turns), turns)


CHECKS = (
    a_tool_call_goes_round,
    a_tool_call_goes_round_over_a_websocket,
    a_tool_call_goes_round_with_the_built_in_provider,
    a_full_window_is_understood,
    a_full_window_is_understood_over_a_websocket,
    an_engine_that_fails_is_asked_again,
    an_engine_that_fails_is_asked_again_over_a_websocket,
    a_picture_does_not_end_the_session,
)


def goes_round(cli: str, folder: Path, provider: str, *, prepared: bool = False) -> None:
    """One call, one answer, nothing tried twice, and each prompt reuses the one before.

    Where it is `prepared`, a request without an answer comes first.
    """
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=WINDOW)) as server:
        told = ask(cli, folder, server, provider)
        turns = answered(server)
    expect(not told.errors, told)
    expect(any("mlxd" in output for output in told.commands), told)
    expect(told.last.startswith(ANSWER), told)
    expect(len(turns) == 2 + prepared, turns)
    expect([turn["finish"] for turn in turns[-2:]] == ["tool_calls", "stop"], turns)
    for before, after in pairwise(turns):
        # The end of a prompt, where the answer begins, is one token.
        expect(int(after["cached"]) >= int(before["prompt"]) - 1, turns)


def is_full(cli: str, folder: Path, provider: str, *, refusals: int) -> None:
    """The user is told, and there are no more refusals than these."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=2048)) as server:
        told = ask(cli, folder, server, provider)
        refused = [line for line in server.log.splitlines() if "ContextTooLong" in line]
    expect(any("ran out of room" in error for error in told.errors), told)
    expect(len(refused) == refusals, refused)


def recovers(cli: str, folder: Path, provider: str) -> None:
    """One turn fails in the middle of its answer, and the next attempt is good."""
    crash = {"fail": {"kind": "EngineCrashed", "facts": {"reason": "killed"}}}
    answers = ([{"text": "On"}, crash], [{"text": ANSWER}])
    script = [{"when": {"contains": QUESTION}, "events": events} for events in answers]
    (folder / "script.json").write_text(json.dumps([*script, [{"text": "Ready."}]]), "utf-8")
    with serve(folder, "--scripted", "script.json", toml=TOML.format(window=WINDOW)) as server:
        told = ask(cli, folder, server, provider)
        crashes = [line for line in server.log.splitlines() if "EngineCrashed" in line]
    expect(told.last == ANSWER, told)
    expect(len(crashes) == 1, crashes)


def ask(
    cli: str,
    folder: Path,
    server: Served,
    provider: str,
    *command: str,
    question: str = QUESTION,
) -> Told:
    """What Codex reports of one run."""
    home, work = folder / "codex", folder / "work"
    for each in (home, work):
        each.mkdir(exist_ok=True)
    config = CONFIG.format(window=WINDOW, provider=provider.replace("{port}", str(server.port)))
    (home / "config.toml").write_text(config, encoding="utf-8")
    done = subprocess.run(
        [cli, "exec", "--skip-git-repo-check", "--json", *command, question],
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CODEX_HOME": str(home),
            "CODEX_API_KEY": "unused",
            "MLXD_API_KEY": "unused",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    expect(bool(lines), done)
    return Told([json.loads(line) for line in lines])


if __name__ == "__main__":
    sys.exit(main())
