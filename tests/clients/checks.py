"""What the checks of agents share: the server's model, the question, and how they are run."""

import base64
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.support import Served

WINDOW = 65536
TOML = """
[models.demo]
source = "demo"
aliases = ["claude-*"]
context_length = {window}
"""
PATIENCE = 120.0
"""Seconds that one run of an agent may take."""
QUESTION = "Run a command and tell me what it prints."
ANSWER = "I looked. The result is: "
"""How the answer begins of the scripted agent that has seen a tool's result."""

LOOK = "Look at the picture plan.png."
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""

Json = dict[str, Any]


def passes(name: str, check: Callable[[Path], None]) -> bool:
    """Whether a check holds in an empty folder; says so."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))
    except (AssertionError, subprocess.TimeoutExpired) as error:
        tell(f"FAILED {name}: {error}")
        return False
    tell(f"ok     {name}")
    return True


def installed(package: str, version: str, program: str) -> str:
    """A program from npm, kept in the folder for temporary files."""
    folder = Path(tempfile.gettempdir()) / f"{program}-{version}"
    cli = folder / "node_modules" / ".bin" / program
    if not cli.exists():
        tell(f"Installing {package} {version} into {folder}")
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([*npm, f"{package}@{version}"], check=True)
    return str(cli)


def write_picture(work: Path) -> Path:
    """A picture in the folder that the agent works in."""
    work.mkdir(exist_ok=True)
    picture = work / "plan.png"
    picture.write_bytes(base64.b64decode(PICTURE))
    return picture


def look_at(folder: Path, call: Json) -> str:
    """The file of a script that makes `call` when asked to look, and then only answers."""
    asked = {"contains": LOOK, "tools": True, "after_tool_result": False}
    script = [[{"text": "Still here."}], {"when": asked, "events": [call]}]
    (folder / "look.json").write_text(json.dumps(script[::-1]), encoding="utf-8")
    return "look.json"


def answered(server: Served) -> list[dict[str, str]]:
    """What the log says of each generation, in order."""
    lines = [line for line in server.log.splitlines() if " completion=" in line]
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]


def expect(holds: bool, told: object) -> None:
    """Fail a check that does not hold with what was told."""
    if not holds:
        raise AssertionError(told)


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
