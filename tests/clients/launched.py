"""`mlxd launch` with the agents themselves: started, then configured, then as if nothing had been.

Not part of `make test`, because it needs the agents. Those that are on the PATH are run:

    python -m tests.clients.launched            # every agent that is there
    python -m tests.clients.launched pi llm     # these

Each gets a home folder of its own, with a user's configuration in it, and talks to nothing but a
server on loopback that wants a key.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mlxd.launch.agents import AGENTS
from tests.clients.checks import ANSWER, PATIENCE, QUESTION, WINDOW, expect, passes, tell
from tests.e2e.support import serve
from tests.environment import ROOT

KEY = "a-key-of-the-server"
TOML = f"""
[models.demo]
source = "demo"
context_length = {WINDOW}

[server]
api_keys = ["{KEY}"]
"""
ECHO = "You said"
"""How the scripted agent answers where no tools are offered."""

ONCE: Mapping[str, tuple[Sequence[str], str]] = {
    "claude": (("-p", QUESTION, "--allowedTools", "Bash"), ANSWER),
    "codex": (("exec", "--skip-git-repo-check", QUESTION), "mlxd"),
    "opencode": (("run", QUESTION), ANSWER),
    "openclaw": (("--json", "--timeout", "100", QUESTION), ANSWER),
    "pi": (("-p", QUESTION), ANSWER),
    "qwen": (("--yolo", "-p", QUESTION), ANSWER),
    "cline": (("--json", "--auto-approve", "true", QUESTION), ANSWER),
    "continue": (("--auto", "-p", QUESTION), ANSWER),
    "aider": (
        ("--no-check-update", "--no-analytics", "--no-git", "--yes-always", "--message", "Hello"),
        "listing",
    ),
    "llm": (("Hello",), ECHO),
    "gptme": (("--non-interactive", "Hello"), ANSWER),
}
"""What has each agent do one thing and end, and a word of what it prints then."""

OF_USERS = {
    ".claude/settings.json": '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}}',
    ".codex/config.toml": "# mine\nmodel = 'mine'\n",
    ".config/opencode/opencode.json": '{"autoupdate": false,\n   "share": "disabled"}\n',
    ".pi/agent/models.json": '{"providers": {}}',
    ".qwen/settings.json": '{"general": {"enableAutoUpdate": false}, "$version": 4}',
    ".config/gptme/config.toml": "providers = []\n\n[prompt]\nfiles = []\n",
    ".config/io.datasette.llm/extra-openai-models.yaml": "# mine\n- model_id: a\n  model_name: b\n",
}
SHOWN_ONLY = ("continue", "aider")
"""Their entry is for people to write; and so is not run."""


def main() -> int:
    """Run every agent that is asked for; the exit code is the number of those that failed."""
    wanted = sys.argv[1:] or [agent.name for agent in AGENTS if agent.name in ONCE]
    programs = {agent.name: agent.program for agent in AGENTS}
    missing = [name for name in wanted if shutil.which(programs[name]) is None]
    tell(f"not installed: {', '.join(missing) or 'none'}")
    return sum(
        not passes(f"{name}: {check.__name__}", partial(check, name))
        for name in wanted
        if name not in missing
        for check in (it_is_launched, it_is_configured)
    )


def it_is_launched(name: str, folder: Path) -> None:
    """It answers, and the user's configuration is as it was."""
    home, arguments = prepared(folder), ONCE[name][0]
    with serve(folder, "--scripted", "agent", toml=TOML):
        done = run(folder, [*mlxd(), "launch", name, "--yes", "--force", "--", *arguments])
    expect(ONCE[name][1] in done.stdout, done)
    if name != "pi":
        expect_untouched(home, name)


def it_is_configured(name: str, folder: Path) -> None:
    """What `--config-only` says it is started with works, and then it is undone."""
    home = prepared(folder)
    with serve(folder, "--scripted", "agent", toml=TOML):
        shown = run(folder, [*mlxd(), "launch", name, "--config-only"])
        expect(shown.returncode == 0, shown)
        if name not in SHOWN_ONLY:
            # The command is what is printed last, and takes the agent's own arguments.
            line = f'{shown.stdout.rstrip()} "$@"'
            done = run(folder, ["sh", "-c", line, "sh", *ONCE[name][0]], MLXD_API_KEY=KEY)
            expect(ONCE[name][1] in done.stdout, done)
    undone = run(folder, [*mlxd(), "launch", name, "--undo"])
    expect(undone.returncode == 0, undone)
    expect_untouched(home, name)


def prepared(folder: Path) -> Path:
    """A home with a user's configuration, which is the state's folder as well."""
    for name, text in OF_USERS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    (folder / "work").mkdir()
    return folder


def expect_untouched(home: Path, agent: str) -> None:
    """Agents write into their own files as well; of ours nothing may be left in any."""
    for name, text in OF_USERS.items():
        left = (home / name).read_text(encoding="utf-8")
        expect(left == text or (agent in name and "mlxd" not in left), left)


def mlxd() -> list[str]:
    return [sys.executable, "-m", "mlxd"]


def run(folder: Path, words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of a user with this home."""
    return subprocess.run(
        words,
        cwd=folder / "work" if words[0] == "sh" else folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
