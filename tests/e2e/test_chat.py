"""`mlxd chat` as a process: in pipes, and on a terminal of its own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.support import Served, serve
from tests.environment import ROOT

LIMIT = 30.0
SLOW = [
    {"when": {"contains": "slow"}, "events": [{"text": "Once upon"}, {"pause": 60}]},
    {"when": {"contains": "evil"}, "events": [{"text": "\x1b[2Jred"}]},
    {"when": {"contains": "empty"}, "events": [{"text": ""}]},
    {"when": {"contains": "newline"}, "events": [{"text": "Line.\n"}]},
    {
        "when": {"contains": "broken"},
        "events": [{"text": "Half"}, {"fail": {"kind": "OutOfMemory", "facts": {"reason": "x"}}}],
    },
    {"when": {"contains": "cut"}, "events": [{"text": "Cut"}, {"finish": "length"}]},
    {"when": {"contains": "think"}, "events": [{"reasoning": "Hm."}, {"text": "So."}]},
    {"when": {"contains": "Why"}, "events": [{"text": "Because."}]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    script = folder / "script.json"
    script.write_text(json.dumps(SLOW), encoding="utf-8")
    with serve(folder, "--scripted", str(script)) as served:
        yield served


def surroundings(folder: Path, server: Served | None) -> dict[str, str]:
    """The environment of a chat: a home of its own, and where the server is."""
    port = server.port if server else 1
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLXD_")}
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"), str(folder))
    place = {"PYTHONPATH": str(ROOT), "MLXD_URL": f"http://127.0.0.1:{port}", "TERM": "xterm"}
    return ours | homes | place


def chat(
    folder: Path, server: Served | None, *args: str, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlxd", "chat", *args],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        cwd=folder,
        env=surroundings(folder, server),
    )


@pytest.mark.parametrize(
    ("args", "stdin", "out"),
    [
        (["Why?"], "", "Because.\n"),
        ([], "Why?", "Because.\n"),
        (["Why?"], "some text\n", "Because.\n"),
        (["newline"], "", "Line.\n"),
        (["empty"], "", ""),
        (["think"], "", "So.\n"),
        (["evil"], "", "\x1b[2Jred\n"),
    ],
)
def test_a_pipe_gets_the_answer_and_nothing_else(
    server: Served, tmp_path: Path, args: list[str], stdin: str, out: str
) -> None:
    done = chat(tmp_path, server, *args, stdin=stdin)
    assert (done.stdout, done.stderr, done.returncode) == (out, "", 0)


def test_what_goes_wrong_goes_to_stderr_with_a_code_of_its_own(
    server: Served, tmp_path: Path
) -> None:
    broken = chat(tmp_path, server, "broken")
    assert (broken.stdout, broken.returncode) == ("Half\n", 1)
    assert broken.stderr.startswith("mlxd: There is not enough memory")
    cut = chat(tmp_path, server, "cut")
    assert (cut.stdout, cut.returncode) == ("Cut\n", 0)
    assert cut.stderr == "mlxd: the answer was cut at its length limit.\n"
    empty = chat(tmp_path, server)
    assert (empty.stdout, empty.returncode) == ("", 2)
    alone = chat(tmp_path, None, "Why?")
    assert (alone.stdout, alone.returncode) == ("", 3)
    assert alone.stderr.endswith("Start one in another terminal: mlxd serve\n")


@contextmanager
def started(
    folder: Path,
    server: Served | None,
    *args: str,
    stdin: int,
    stdout: int,
    stderr: int = subprocess.PIPE,
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlxd", "chat", *args],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env=surroundings(folder, server),
        start_new_session=True,
        # What runs in the background may have been told to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def test_an_interrupt_ends_with_130_and_what_was_said(server: Served, tmp_path: Path) -> None:
    with started(
        tmp_path, server, "slow", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.read(9) == b"Once upon"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert (out, err, process.returncode) == (b"\n", b"\n", 130)


def test_a_reader_that_has_enough_is_no_failure(server: Served, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with started(tmp_path, server, "Why?", stdin=subprocess.DEVNULL, stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=LIMIT)
    assert (err, process.returncode) == (b"", 0)


def read_until(handle: int, wanted: bytes, seen: bytes = b"") -> bytes:
    """What a terminal shows until `wanted` is among it, or until its end."""
    end = time.monotonic() + LIMIT
    while wanted not in seen and time.monotonic() < end:
        if select.select([handle], [], [], 0.1)[0]:
            try:
                data = os.read(handle, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    assert wanted in seen, seen[-2000:]
    return seen


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_leaves_the_terminal_clean(
    server: Served, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    near, far = pty.openpty()
    termios.tcsetwinsize(near, (24, 80))
    before = termios.tcgetattr(far)
    try:
        # Textual draws on stderr.
        with started(tmp_path, server, stdin=far, stdout=far, stderr=far) as process:
            seen = read_until(near, b"shows keys")
            process.send_signal(number)
            seen = read_until(near, b"\x1b[?1049l", seen)
            assert process.wait(LIMIT) == code
        assert b"Traceback" not in seen
        assert termios.tcgetattr(far) == before
    finally:
        os.close(near)
        os.close(far)


def test_ctrl_z_gives_the_terminal_back_until_fg(server: Served, tmp_path: Path) -> None:
    near, far = pty.openpty()
    termios.tcsetwinsize(near, (24, 80))
    before = termios.tcgetattr(far)
    try:
        with started(tmp_path, server, stdin=far, stdout=far, stderr=far) as process:
            read_until(near, b"shows keys")
            os.write(near, b"\x1a")
            read_until(near, b"\x1b[?1049l")
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            assert termios.tcgetattr(far) == before
            process.send_signal(signal.SIGCONT)
            read_until(near, b"shows keys")
            os.write(near, b"\x04")
            read_until(near, b"\x1b[?1049l")
            assert process.wait(LIMIT) == 0
    finally:
        os.close(near)
        os.close(far)


def test_on_a_terminal_an_answer_can_not_command_it(server: Served, tmp_path: Path) -> None:
    near, far = pty.openpty()
    try:
        with started(tmp_path, server, "evil", stdin=subprocess.DEVNULL, stdout=far) as process:
            seen = read_until(near, b"red")
            process.wait(LIMIT)
        assert "\u241b[2Jred".encode() in seen
    finally:
        os.close(near)
        os.close(far)


def test_without_a_server_there_is_a_line_and_no_screen(tmp_path: Path) -> None:
    near, far = pty.openpty()
    try:
        with started(tmp_path, None, stdin=far, stdout=far) as process:
            _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 3
        assert re.fullmatch(
            r"mlxd: No server answers at http://127\.0\.0\.1:1 \(Connection refused\)\. "
            r"Start one in another terminal: mlxd serve\n",
            err.decode(),
        )
    finally:
        os.close(near)
        os.close(far)
