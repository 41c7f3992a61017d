"""An answer that was cut as it only repeated itself: cut for clients, and named in the log."""

import logging
from typing import Any

import msgspec
import pytest

from mlxd.events import Usage
from tests.api.messages import BASE
from tests.api.support import CHAT, MESSAGES, RESPONSES, bytes_of, front
from tests.scripts import STARTED, call, finished, text

LOOPED = msgspec.structs.replace(
    finished("length", usage=Usage(prompt=12, completion=512)), repetition=True
)
SCRIPT = (STARTED, *text(0, "and so on, ", "and so on, "), LOOPED)
HELLO = [{"role": "user", "content": "Hello"}]
ASKED: list[tuple[str, dict[str, Any], bytes]] = [
    (CHAT, {"model": "demo", "messages": HELLO, "max_tokens": 4096}, b'"finish_reason":"length"'),
    (MESSAGES, BASE | {"max_tokens": 4096}, b'"stop_reason":"max_tokens"'),
    (RESPONSES, {"model": "demo", "input": "Hello"}, b'"reason":"max_output_tokens"'),
]


@pytest.mark.parametrize(("path", "body", "end"), ASKED, ids=[path for path, _, _ in ASKED])
@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_cut_in_every_dialect(
    path: str, body: dict[str, Any], end: bytes, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mlxd.request")
    reply = await front(*SCRIPT).post(body | {"stream": stream}, path)
    assert end in await bytes_of(reply)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "mlxd.request"]
    assert "finish=repetition" in line


@pytest.mark.parametrize(("path", "body", "end"), ASKED, ids=[path for path, _, _ in ASKED])
async def test_a_call_that_it_cut_is_not_made(path: str, body: dict[str, Any], end: bytes) -> None:
    script = (STARTED, *call(0, "save", '{"text": "0, 0, 0, '), LOOPED)
    data = await bytes_of(await front(*script).post(body | {"stream": True}, path))
    assert end in data
    for done in (b'"tool_use"}', b'"finish_reason":"tool_calls"', b"response.completed"):
        assert done not in data
