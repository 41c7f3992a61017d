"""The file of the admin token: who may read it, which server it is of, and when it goes."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from mlxd.admin_token import Access, chosen, find, folder, published, running


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == platformdirs.user_state_path("mlxd")
    yield folder()
    assert not list(folder().glob("*"))


def access(port: int, token: str = "t", started: float = 1.0) -> Access:
    return Access(f"http://127.0.0.1:{port}", token, os.getpid(), started)


def test_the_file_is_for_its_owner_alone_and_goes_with_the_server() -> None:
    with published(access(8484)) as path:
        assert path.name == "admin-8484.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert os.listdir(path.parent) == [path.name]
        assert find() == access(8484)
    assert find() is None


def test_each_server_is_found_by_its_port_and_the_newest_without_one() -> None:
    with published(access(1, "one", 2.0)), published(access(2, "two", 1.0)):
        assert find() == access(1, "one", 2.0)
        for url in ("http://localhost:2", "http://[::1]:2/", "127.0.0.1:2"):
            found = find(url)
            assert found is not None
            assert found.token == "two"
        assert find("http://127.0.0.1:3") is None


@pytest.mark.parametrize("url", ["http://evil.example:1", "http://10.0.0.1:1", "http://x:bad", ""])
def test_the_token_is_never_given_for_another_machine(url: str) -> None:
    with published(access(1)):
        assert find(url) is None


def test_what_a_killed_server_left_misleads_nobody() -> None:
    program = (
        "import os, time; from mlxd.admin_token import *\n"
        f"with published(Access('http://127.0.0.1:7', 'dead', {os.getpid()}, 9.0)) as path:\n"
        "    print(path, flush=True); os._exit(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    left = Path(done.stdout.strip())
    assert left.exists()
    assert find() is None
    assert find("http://127.0.0.1:7") is None
    with published(access(8)):
        assert not left.exists(), "the next server tidies up"


def test_a_server_that_took_the_file_over_keeps_it() -> None:
    first = published(access(5, "first"))
    path = first.__enter__()
    with published(access(5, "second")):
        first.__exit__(None, None, None)
        found = find("http://127.0.0.1:5")
        assert path.exists()
        assert found is not None
        assert found.token == "second"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "http://127.0.0.1:6"}', "\0"])
def test_a_file_that_is_no_such_file_is_passed_over(text: str) -> None:
    folder().mkdir(parents=True)
    odd = folder() / "admin-6.json"
    odd.write_text(text)
    odd.chmod(0o600)
    assert find("http://127.0.0.1:6") is None
    odd.unlink()


def test_what_is_no_address_is_no_servers(tmp_path: Path) -> None:
    with published(Access("http://127.0.0.1:port", "t", 1), tmp_path / "file") as path:
        assert running(path) == []
    with published(Access("http://127.0.0.1:4", "t", 1), tmp_path / "file") as path:
        assert len(running(path)) == 1


def test_a_file_that_others_could_read_or_write_is_not_trusted() -> None:
    with published(access(9)) as path:
        path.chmod(0o644)
        assert find() is None


def test_the_file_can_be_elsewhere(tmp_path: Path) -> None:
    file = chosen("secret/token.json", tmp_path / "mlxd.toml")
    assert file == tmp_path / "secret/token.json"
    with published(access(4), file):
        assert find() is None
        assert find(None, file) == access(4)
    assert not file.exists()


def test_a_folder_that_cannot_be_written_is_an_error_to_tell(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), published(access(4), tmp_path / "file/token"):
        pass
