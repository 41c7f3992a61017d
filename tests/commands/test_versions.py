"""A server that runs on after an update is named as that."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from mlxd import __version__, outdated
from mlxd.admin_token import Access, published
from mlxd.commands.doctor_checks import version_findings
from mlxd.status import EngineStatus, ServerStatus, Status
from mlxd.tui.terminal import UNICODE
from mlxd.tui.top.header import heading
from tests.environment import Shell

OLD = Status(
    server=ServerStatus(version="0.0.9", state="serving", health="ok", pid=1),
    engine=EngineStatus(state="ready"),
)


class OldServer(BaseHTTPRequestHandler):
    """Says what an earlier version says of itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(msgspec.json.encode(OLD))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def old_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Access]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    server = HTTPServer(("127.0.0.1", 0), OldServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    access = Access(f"http://127.0.0.1:{server.server_port}", "t", 1, 1.0, started_by="service")
    with published(access):
        yield access
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("version", "is_outdated"),
    [("0.0.9", True), ("0.1.0.dev1", False), ("", False), ("99.0", False), (__version__, False)],
)
def test_only_an_earlier_version_is_outdated(version: str, is_outdated: bool) -> None:
    assert outdated(version) == is_outdated


def test_doctor_and_the_list_of_servers_name_it(old_server: Access, mlxd: Shell) -> None:
    (finding,) = version_findings()
    assert (finding.level, finding.remedy) == ("warn", "mlxd service restart")
    assert f"{old_server.url} runs mlxd 0.0.9, {__version__} is installed" in finding.text
    (row,) = json.loads(mlxd("ps", "--json").out)["servers"]
    assert (row["version"], row["started_by"]) == ("0.0.9", "service")


def test_top_says_to_restart_it() -> None:
    def first_line(version: str) -> str:
        status = replace_version(version)
        return "".join(text for text, _ in heading(status, [], 120, UNICODE)[0])

    assert f"mlxd 0.0.9 ({__version__} is installed: restart it)" in first_line("0.0.9")
    assert "installed" not in first_line(__version__)


def replace_version(version: str) -> Status:
    return msgspec.structs.replace(OLD, server=msgspec.structs.replace(OLD.server, version=version))
