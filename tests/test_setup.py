"""`make` in a fresh clone: what is looked at first, and what it puts on the PATH."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT

pytestmark = pytest.mark.process


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a clone as `make` needs before it installs, in an account without anything."""
    folder = tmp_path / "clone"
    (folder / "tools").mkdir(parents=True)
    for name in ("Makefile", "tools/setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(clone: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(clone.parent), "PATH": "/usr/bin:/bin"},
    )


def setup(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(clone, sys.executable, "tools/setup.py", *words)


@pytest.mark.parametrize("how", ["PORT={}", "ARGS=--port {}", "ARGS=--log-level debug --port={}"])
def test_a_port_in_use_is_said_before_anything_is_installed(clone: Path, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(clone, "make", "serve", how.format(port), f"PYTHON={sys.executable}")
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith(f"mlxd: port {port} can't be used")
    assert sorted(os.listdir(clone)) == ["Makefile", "pyproject.toml", "tools"]


def test_the_port_of_a_configuration_is_looked_at(clone: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (clone / "mlxd.toml").write_text(f"[server]\nport = {port}\n", encoding="utf-8")
        done = setup(clone, "check", "")
    assert done.returncode == 3
    assert str(port) in done.stderr
    assert setup(clone, "check").returncode == 0


def test_a_long_command_shows_that_it_goes_on_and_why_it_failed(clone: Path) -> None:
    failing = "import sys; print('Collecting stars (from sky)', flush=True); sys.exit('no stars')"
    done = setup(clone, "run", "looking up", sys.executable, "-c", failing)
    assert done.returncode == 1
    assert done.stderr.startswith("looking up, 0 s")
    assert "no stars" in done.stderr


def test_install_links_the_program_and_never_over_another(clone: Path) -> None:
    own = clone / ".venv" / "bin" / "mlxd"
    own.parent.mkdir(parents=True)
    own.touch(mode=0o755)
    there = clone.parent / ".local" / "bin" / "mlxd"
    for _ in range(2):
        done = setup(clone, "install")
        assert (done.returncode, there.readlink()) == (0, own)
        assert str(there.parent) in done.stdout
    assert setup(clone, "uninstall").returncode == 0
    assert not there.is_symlink()
    there.write_text("another program")
    assert setup(clone, "install").returncode == 1
    setup(clone, "uninstall")
    assert there.read_text() == "another program"
