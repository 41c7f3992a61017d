"""The public compliance suite of Open Responses, one template after another.

Not part of `make test`, because it fetches the suite, and bun to run it from npm, once:

    python -m tests.clients.open_responses                     # against a scripted server
    python -m tests.clients.open_responses --url http://127.0.0.1:8484/v1 --model qwen
    python -m tests.clients.open_responses --suite FOLDER      # or the address of another clone
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.clients.checks import TOML, WINDOW, Json, tell
from tests.e2e.support import serve

SUITE = "https://github.com/openresponses/openresponses.git"
VERSION = "2026-04-24"
"""Of the specification: the suite that was tested is for this one."""
TOOLS = ("bun@1.4.5", "zod@3.25.76")
PATIENCE = 180.0
"""Seconds that one template may take."""
LIST = 'import { testTemplates } from "./src/lib/compliance-tests";\n' + (
    "console.log(JSON.stringify(testTemplates.map((template) => template.id)));\n"
)


def main() -> int:
    """Run every template that is asked for; the exit code is the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--suite", default=SUITE, help="a clone of the suite, or where to find one")
    parser.add_argument("--url", help="base URL of a server that runs, with /v1")
    parser.add_argument("--model", default="demo", help="the model to ask for")
    parser.add_argument("--key", default="unused", help="an API key of that server")
    parser.add_argument("templates", nargs="*", help="ids of templates; all without any")
    options = parser.parse_args()
    suite = Suite(prepared(options.suite))
    failed = 0
    with server(options.url) as url:
        for name in options.templates or suite.templates():
            result = suite.run(name, "-u", url, "-k", options.key, "-m", options.model)
            failed += report(name, result)
    return failed


class Suite:
    """A clone of the suite next to the packages that it needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def templates(self) -> Sequence[str]:
        """The ids of all templates."""
        found: list[str] = json.loads(self._bun("--eval", LIST))
        return found

    def run(self, name: str, *arguments: str) -> Json:
        """What the suite says of one template."""
        told = self._bun("bin/compliance-test.ts", "--json", "--filter", name, *arguments)
        results = json.loads(told)["results"]
        return dict(results[-1])

    def _bun(self, *arguments: str) -> str:
        bun = self._folder.parent / "node_modules" / ".bin" / "bun"
        done = subprocess.run(
            [bun, *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if not done.stdout:
            raise RuntimeError(done.stderr)
        return done.stdout


def prepared(source: str) -> Path:
    """The suite, ready to run, kept in the folder for temporary files."""
    folder = Path(tempfile.gettempdir()) / f"open-responses-{VERSION}"
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules" / ".bin" / "bun").exists():
        tell(f"Installing {' and '.join(TOOLS)} into {folder}")
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([*npm, *TOOLS], check=True)
    # Below the packages, so that they are found without installing all that the website needs.
    suite = folder / re.sub(r"\W+", "-", source).strip("-")
    if not suite.exists():
        tell(f"Fetching {source}")
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", source, str(suite)], check=True)
    return suite


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The base URL of the server to test: the given one, or a scripted one that is started."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        toml = TOML.format(window=WINDOW)
        with serve(Path(folder), "--scripted", "agent", toml=toml) as served:
            yield f"http://127.0.0.1:{served.port}/v1"


def report(name: str, result: Json) -> bool:
    """Say how a template went; whether it failed."""
    tell(f"{result['status']:<8} {name}  ({result.get('duration', 0)} ms)")
    for error in result.get("errors", ()):
        tell(f"         {error}")
    return bool(result["status"] != "passed")


if __name__ == "__main__":
    sys.exit(main())
