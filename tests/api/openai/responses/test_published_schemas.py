"""Responses against the published schemas, OpenAI's and Open Responses', event by event."""

import json
from typing import Any

import msgspec
import pytest

from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.response_object import counted
from mlxd.errors import InvalidField
from tests.api.responses import (
    CUSTOM,
    DIALECT,
    FUNCTION,
    SEARCH,
    SPACE,
    Json,
    bodies,
    call,
    caller,
    compact,
    events_of,
    parsed,
    response_of,
    result,
    user,
)
from tests.api.spec import OPEN_RESPONSES, OPENAI, check_against, events, needs_spec
from tests.scripts import SCRIPTS

pytestmark = needs_spec
ECHOED: Json = {
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 1.0,
    "frequency_penalty": -1.0,
    "user": "me",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "service_tier": "auto",
    "truncation": "auto",
    "tools": [FUNCTION, {"type": "function", "name": "bare"}],
    "tool_choice": {"type": "function", "name": "get_weather"},
    "parallel_tool_calls": False,
    "text": {"verbosity": "low", "format": {"type": "json_object"}},
    "reasoning": {"effort": "low", "summary": "auto"},
}
WISHES: dict[str, Json] = {
    "plain": {},
    "echoed": ECHOED,
    "summary": {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
    "logprobs": {"top_logprobs": 2, "background": True, "previous_response_id": "resp_1"},
    "schema": {
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    },
    "custom": {"tools": [{**CUSTOM, "name": "get_weather"}, SPACE, SEARCH]},
    "allowed": {
        "tools": [FUNCTION],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    },
}
OPENAI_ALONE = ("custom", "schema")
"""Open Responses has neither custom tools nor namespaces, and echoes no schema."""
every_script = pytest.mark.parametrize("name", SCRIPTS)
every_wish = pytest.mark.parametrize("wish", WISHES)


def with_usage(event: Json) -> Json:
    """`event` without the null that its document forgets: there is no usage before the end."""
    response = event.get("response", {})
    if response.get("usage", 0) is not None:
        return event
    told = {name: value for name, value in response.items() if name != "usage"}
    return {**event, "response": told}


@every_script
@every_wish
def test_every_event_is_what_openai_publishes(name: str, wish: str) -> None:
    for event in events_of(SCRIPTS[name], **WISHES[wish]):
        if event["type"] == "response.failed":
            # The document's list of codes leaves out what its own server says.
            assert event["response"]["error"]["code"] == "server_error"
        check_against(events(OPENAI)[event["type"]], with_usage(event))


@every_script
@every_wish
def test_every_event_is_what_open_responses_publishes(name: str, wish: str) -> None:
    if wish in OPENAI_ALONE:
        return
    known = events(OPEN_RESPONSES)
    for event in events_of(SCRIPTS[name], **WISHES[wish]):
        if "reasoning_text" not in event["type"]:
            check_against(known[event["type"]], event, OPEN_RESPONSES)


@every_script
@every_wish
def test_every_response_is_what_both_publish(name: str, wish: str) -> None:
    response = response_of(SCRIPTS[name], **WISHES[wish])
    check_against("Response", response)
    if wish not in OPENAI_ALONE:
        check_against("ResponseResource", response, OPEN_RESPONSES)


def test_items_of_the_input_are_what_openai_publishes() -> None:
    values: list[Any] = [
        user("Hello"),
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "assistant", "content": "Hi"},
        {"type": "reasoning", "summary": []},
        call("f", id=None, status=None),
        result("42"),
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
        user("Look"),
    ]
    for item in bodies(parsed(input=values).input):
        check_against("ItemResource", item)


def test_a_count_is_what_openai_publishes() -> None:
    check_against("TokenCountsResource", counted(7))


def test_a_compaction_is_what_both_publish() -> None:
    renderer = compact(input=[user("Hello")]).resolve(Past()).renderer
    for event in SCRIPTS["reasoning_then_text"]:
        list(renderer.frames(0, event))
    body = json.loads(msgspec.json.encode(renderer.snapshot()))
    check_against("CompactResource", body)
    check_against("CompactResource", body, OPEN_RESPONSES)


def test_errors_are_what_openai_publishes() -> None:
    with pytest.raises(InvalidField) as refused:
        parsed(temperature=3)
    check_against("ErrorResponse", DIALECT.error(refused.value, caller()).body)
