"""Claude Code against a scripted server: a tool round trip, the prefix, a full window, aliases.

Not part of `make test`, because it needs Claude Code, a program of some hundred megabytes from npm:

    python -m tests.clients.claude_code              # installs the version that was tested, once
    python -m tests.clients.claude_code --cli claude # uses the one that you have

It gives Claude Code a home folder of its own and talks to nothing but a server on loopback.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.support import Served, serve

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "2.1.330"
WINDOW = 65536
PATIENCE = 120.0
"""Seconds that one run of Claude Code may take."""
TOML = """
[models.demo]
source = "demo"
aliases = ["claude-*"]
context_length = {window}
"""
QUESTION = "Run a command and tell me what it prints."

Json = dict[str, Any]


def main() -> int:
    """Run every check; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cli", help="an installed Claude Code, instead of one from npm")
    cli = parser.parse_args().cli or installed()
    failed = 0
    for check in CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            failed += not passes(check, cli, Path(folder))
    return failed


def passes(check: Callable[[str, Path], None], cli: str, folder: Path) -> bool:
    """Whether a check holds; says so."""
    try:
        check(cli, folder)
    except AssertionError as error:
        tell(f"FAILED {check.__name__}: {error}")
        return False
    tell(f"ok     {check.__name__}")
    return True


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


CHECKS = (
    a_tool_call_goes_round,
    the_second_turn_reuses_the_whole_first_prompt,
    a_full_window_is_understood,
    a_name_for_another_model_is_answered,
)


def ask(cli: str, folder: Path, server: Served, model: str = "demo") -> Json:
    """What Claude Code reports of one run."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    allowed = ("--allowedTools", "Bash", "Read", "--max-turns", "6")
    done = subprocess.run(
        [cli, "-p", QUESTION, "--output-format", "json", *allowed],
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


def answered(server: Served) -> list[dict[str, str]]:
    """What the log says of each generation, in order."""
    lines = [line for line in server.log.splitlines() if " completion=" in line]
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]


def installed() -> str:
    """The tested version from npm, kept in the folder for temporary files."""
    folder = Path(tempfile.gettempdir()) / f"claude-code-{VERSION}"
    cli = folder / "node_modules" / ".bin" / "claude"
    if not cli.exists():
        tell(f"Installing {PACKAGE} {VERSION} into {folder}")
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([*npm, f"{PACKAGE}@{VERSION}"], check=True)
    return str(cli)


def expect(holds: bool, told: object) -> None:
    if not holds:
        raise AssertionError(told)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
