"""Claude Code against a scripted server: a tool round trip, the prefix, a full window, aliases.

Not part of `make test`, because it needs Claude Code, a program of some hundred megabytes from npm:

    python -m tests.clients.claude_code              # installs the version that was tested, once
    python -m tests.clients.claude_code --cli claude # uses the one that you have

It gives Claude Code a home folder of its own and talks to nothing but a server on loopback.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.clients.checks import (
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

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "2.1.330"


def main() -> int:
    """Run every check; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cli", help="an installed Claude Code, instead of one from npm")
    cli = parser.parse_args().cli or installed(PACKAGE, VERSION, "claude")
    return sum(not passes(check.__name__, partial(check, cli)) for check in CHECKS)


def a_tool_call_goes_round(cli: str, folder: Path) -> None:
    """It calls a tool, runs it, sends the result, and prints the answer to that."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=WINDOW)) as server:
        told = ask(cli, folder, server)
        turns = answered(server)
    expect(not told["is_error"], told)
    expect(told["result"] == "I looked. The result is: mlxd", told)
    expect(told["modelUsage"]["demo"]["contextWindow"] == WINDOW, told)
    expect([turn["finish"] for turn in turns] == ["tool_calls", "stop"], turns)


def the_second_turn_reuses_the_whole_first_prompt(cli: str, folder: Path) -> None:
    """Nothing that it changes between two turns changes the prompt's beginning."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=WINDOW)) as server:
        ask(cli, folder, server)
        first, second = answered(server)
    # The end of a prompt, where the answer begins, is one token.
    expect(int(second["cached"]) >= int(first["prompt"]) - 1, (first, second))


def a_full_window_is_understood(cli: str, folder: Path) -> None:
    """The sentence with the two numbers ends the run with the reason that it names."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=2048)) as server:
        told = ask(cli, folder, server)
    expect(told["is_error"] and told["terminal_reason"] == "prompt_too_long", told)


def a_name_for_another_model_is_answered(cli: str, folder: Path) -> None:
    """A model that it knows makes it send other requests, which are answered all the same."""
    with serve(folder, "--scripted", "agent", toml=TOML.format(window=WINDOW)) as server:
        told = ask(cli, folder, server, model="claude-sonnet-4-6")
    expect(told["result"].startswith("I looked. The result is: mlxd"), told)


def a_picture_does_not_end_the_session(cli: str, folder: Path) -> None:
    """It reads a picture, which goes along with ten later turns, and all is well."""
    picture = write_picture(folder / "work")
    call = {"tool_call": {"name": "Read", "arguments": {"file_path": str(picture)}}}
    with serve(
        folder, "--scripted", look_at(folder, call), toml=TOML.format(window=WINDOW)
    ) as server:
        first = ask(cli, folder, server, question=LOOK)
        later = [
            ask(cli, folder, server, "--continue", question=f"Turn {turn}.") for turn in range(10)
        ]
        turns = answered(server)
    expect(not first["is_error"], first)
    expect([told["result"] for told in later] == ["Still here."] * 10, later)
    expect(all(turn["status"] == "200" for turn in turns), turns)


CHECKS = (
    a_tool_call_goes_round,
    the_second_turn_reuses_the_whole_first_prompt,
    a_full_window_is_understood,
    a_name_for_another_model_is_answered,
    a_picture_does_not_end_the_session,
)


def ask(
    cli: str,
    folder: Path,
    server: Served,
    *more: str,
    model: str = "demo",
    question: str = QUESTION,
) -> Json:
    """What Claude Code reports of one run."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    allowed = ("--allowedTools", "Bash", "Read", "--max-turns", "6")
    done = subprocess.run(
        [cli, "-p", question, "--output-format", "json", *allowed, *more],
        cwd=work,
        env=environment(folder, server.port, model),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    expect(done.stdout.startswith("{"), done)
    told: Json = json.loads(done.stdout)
    return told


def environment(folder: Path, port: int, model: str) -> Mapping[str, str]:
    """Claude Code's settings, as the README has them, and a home that is empty."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLAUDE_CONFIG_DIR": str(folder / "claude"),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_AUTH_TOKEN": "unused",
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(WINDOW),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "8192",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


if __name__ == "__main__":
    sys.exit(main())
