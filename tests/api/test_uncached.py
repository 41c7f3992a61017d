"""Why a prompt was not cached: in usage, the log, the status and the metrics, in the same words."""

import json
import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.support import (
    AZURE_CHAT,
    CHAT,
    MESSAGES,
    RESPONSES,
    Front,
    bytes_of,
    front,
    sse_frames,
)
from tests.api.watching import watched
from tests.scripts import text

Json = dict[str, Any]
WAYS = {
    CHAT: ("messages", "prompt_tokens_details"),
    AZURE_CHAT: ("messages", "prompt_tokens_details"),
    RESPONSES: ("input", "input_tokens_details"),
    MESSAGES: ("messages", ""),
}


async def usage(server: Front, path: str, said: str, *, live: bool = False) -> Json:
    """`usage` of the answer to one message."""
    body = {WAYS[path][0]: [{"role": "user", "content": said}], "model": "demo", "max_tokens": 9}
    if live:
        body |= {"stream": True}
        body |= {"stream_options": {"include_usage": True}} if "chat" in path else {}
    response = await server.post(body, path)
    data = await bytes_of(response)
    assert response.status_code == 200, data
    if not live:
        return dict(json.loads(data)["usage"])
    found: Json = {}
    for frame in sse_frames(data):
        event = {} if frame.data == b"[DONE]" else json.loads(frame.data)
        found = event.get("usage") or event.get("response", {}).get("usage") or found
    return found


def uncached(path: str, usage: Json) -> Json:
    """What of `usage` says why."""
    place = usage[WAYS[path][1]] if WAYS[path][1] else usage
    assert all(isinstance(value, int) for value in place.values() if WAYS[path][1])
    return {name: value for name, value in place.items() if name.startswith("uncached_")}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("path", WAYS)
async def test_usage_says_why_a_prompt_was_not_cached(path: str, live: bool) -> None:
    server = front(*text(0, "Hello."))
    first = uncached(path, await usage(server, path, "One two three four.", live=live))
    again = uncached(path, await usage(server, path, "One two three four.", live=live))
    other = uncached(path, await usage(server, path, "One two four.", live=live))
    (computed,) = first.values()
    assert first == {"uncached_first_prompt_tokens": computed}
    assert computed > 0
    assert again == {}
    assert list(other) == ["uncached_differs_tokens"]
    assert 0 < other["uncached_differs_tokens"] < computed


async def test_the_log_says_it_in_a_word_and_in_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mlxd.request")
    server = front(*text(0, "Hello."))
    for said in ("One two.", "One two.", "One three."):
        await usage(server, CHAT, said)
    first, again, other = (each.getMessage() for each in caplog.records)
    assert 'uncached=first_prompt uncached_note="first prompt of this key"' in first
    assert "uncached" not in again
    assert 'uncached=differs uncached_note="differs from the closest earlier prompt' in other


async def test_status_and_metrics_count_it_by_reason() -> None:
    server = watched(*text(0, "Hello."))
    for said in ("One two.", "One three.", "One four."):
        await server.ask(messages=[{"role": "user", "content": said}])
    samples = {
        (sample.name, sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(await server.metrics())
        for sample in family.samples
        if "reason" in sample.labels
    }
    assert samples["mlxd_prefix_cache_misses_total", "first_prompt"] == 1
    assert samples["mlxd_prefix_cache_misses_total", "differs"] == 2
    assert samples["mlxd_prefix_cache_misses_total", "evicted"] == 0
    assert samples["mlxd_prefix_cache_missed_tokens_total", "differs"] >= 2
