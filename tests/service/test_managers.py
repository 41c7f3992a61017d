"""systemd and launchd: which commands they get, and how their words are read."""

import os
import plistlib
from pathlib import Path

import pytest

from mlxd.service.managers import ManagerFailed, carry_out, launchd, manager_for, systemd

LAUNCHCTL = """\
#!/bin/sh
echo "$@" >> "$HOME/calls"
case "$1" in
  print)
    case "$2" in
      gui/*/*|user/*/*) [ -f "$HOME/loaded" ] || exit 113; cat "$HOME/loaded" ;;
      gui/*) [ -z "$NO_DESKTOP" ] ;;
    esac ;;
  bootstrap)
    # Busy at first, as after a bootout.
    if [ ! -f "$HOME/tried" ]; then touch "$HOME/tried"; echo "Input/output error" >&2; exit 5; fi
    ;;
  bootout) exit 3 ;;
  kickstart) echo "Could not find service" >&2; exit 113 ;;
esac
"""
PRINTED = """\
gui/501/local.mlxd = {
	state = running
	pid = 4711
	last exit code = 75
	endpoints = {
		state = active
		pid = 1
	}
}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a `launchctl` of its own on the path."""
    program = tmp_path / "bin" / "launchctl"
    program.parent.mkdir()
    program.write_text(LAUNCHCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    return tmp_path


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text().splitlines()


def test_launchd_takes_out_what_is_there_and_is_asked_again_while_it_is_busy(home: Path) -> None:
    manager = launchd(home)
    file = home / "Library" / "LaunchAgents" / "local.mlxd.plist"
    assert manager.unit_file == file
    (home / "calls").unlink()
    carry_out(manager.install)
    domain = f"gui/{os.getuid()}"
    assert calls(home) == [
        f"bootout {domain}/local.mlxd",
        f"enable {domain}/local.mlxd",
        f"bootstrap {domain} {file}",
        f"bootstrap {domain} {file}",
    ]
    with pytest.raises(ManagerFailed, match="kickstart.*Could not find service"):
        carry_out(manager.start)
    carry_out(manager.remove)


def test_over_ssh_without_a_desktop_it_is_the_accounts_own_domain(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_DESKTOP", "1")
    (stop,) = launchd(home).stop
    assert str(stop) == f"launchctl kill SIGTERM user/{os.getuid()}/local.mlxd"


def test_what_launchd_prints_is_read(home: Path) -> None:
    manager = launchd(home)
    assert manager.state() == (0, "not loaded", False)
    (home / "loaded").write_text(PRINTED)
    assert manager.state() == (4711, "running, last exit code 75", True)


def test_a_unit_of_someone_elses_is_known(home: Path) -> None:
    manager = systemd(home)
    assert manager.unit_file == home / ".config" / "systemd" / "user" / "mlxd.service"
    assert (manager.installed, manager.foreign) == (False, False)
    manager.unit_file.parent.mkdir(parents=True)
    manager.unit_file.write_text("[Service]\nExecStart=/my/own\n")
    assert (manager.installed, manager.foreign) == (False, True)
    other = launchd(home)
    other.unit_file.parent.mkdir(parents=True)
    other.unit_file.write_bytes(plistlib.dumps({"Label": "local.mlxd"}))
    assert (other.installed, other.foreign) == (False, True)


def test_where_there_is_no_manager_that_is_said(home: Path) -> None:
    with pytest.raises(ManagerFailed, match="neither systemd nor launchd"):
        manager_for("freebsd14", home)
    assert manager_for("darwin", home).name == "launchd"
    # To see what it would be there is no need of it.
    assert manager_for("linux", home, needed=False).name == "systemd"
