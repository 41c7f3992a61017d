"""Log lines: one a message, whatever the message holds."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from mlxd.server.logs import JsonLines, TextLines, printable, setup

HOSTILE = "a\r\n2026-11-23 INFO mlxd: forged\x1b[2J\x00\u2028\u202e"


def _record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("mlxd.x", logging.WARNING, "x.py", 1, message, args, None)
    record.__dict__.update(extra)
    return record


def _raising(text: str) -> logging.LogRecord:
    try:
        try:
            raise FileNotFoundError(2, "No such file", text)
        except OSError as cause:
            raise ValueError(text) from cause
    except ValueError:
        record = _record("it broke")
        record.exc_info = sys.exc_info()
        return record


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_no_message_makes_a_line_of_its_own(form: logging.Formatter) -> None:
    line = form.format(_record("name=%s", HOSTILE))
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_an_exception_is_told_without_its_text(form: logging.Formatter) -> None:
    line = form.format(_raising("a secret"))
    assert line.isprintable()
    assert "secret" not in line
    assert "ValueError at tests/server/test_logs.py:" in line
    assert "from FileNotFoundError (No such file) at" in line


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("größer: 日本 🙂") == "größer: 日本 🙂"


def test_facts_are_fields_of_their_own_in_json() -> None:
    line = json.loads(JsonLines().format(_record("m", facts={"tokens": 3, "level": "forged"})))
    assert line["tokens"] == 3
    assert (line["level"], line["logger"], line["message"]) == ("warning", "mlxd.x", "m")
    assert line["time"].endswith("+00:00")


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("mlxd")
    handlers, level, own = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(own)


@pytest.mark.usefixtures("logging_put_back")
def test_our_messages_are_filtered_by_level_and_others_to_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup("info", "text")
    for name, level in (("mlxd.a", 20), ("mlxd.b", 10), ("other", 20), ("other", 30)):
        logging.getLogger(name).log(level, "from %s at %d", name, level)
    said = capsys.readouterr().err
    assert [line.rpartition(": ")[2] for line in said.splitlines()] == [
        "from mlxd.a at 20",
        "from other at 30",
    ]
