"""Several texts of one answer in the one string that Chat Completions has for them."""

import pytest

from tests.api.support import CHAT, bytes_of, chunks_of, front
from tests.scripts import STARTED, call, finished, reasoning, text

ASKED = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("Let me look.", "Done.", "Let me look.\n\nDone."),
        ("Let me look.\n", "Done.", "Let me look.\nDone."),
        ("Let me look.", " Done.", "Let me look. Done."),
        ("", "Done.", "Done."),
        ("Let me look.", "", "Let me look."),
    ],
)
async def test_texts_are_parted_where_no_white_space_does(
    first: str, second: str, whole: str
) -> None:
    for between in ((), tuple(reasoning(1, "Hm.")), tuple(call(1, "save", "{}"))):
        at = 1 + bool(between)
        script = (STARTED, *text(0, first), *between, *text(at, second[:2], second[2:]), finished())
        reply = await front(*script).post(ASKED, CHAT)
        message = (await reply.get_json())["choices"][0]["message"]
        assert message["content"] == whole
        chunks = chunks_of(
            await bytes_of(await front(*script).post(ASKED | {"stream": True}, CHAT))
        )
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == whole
