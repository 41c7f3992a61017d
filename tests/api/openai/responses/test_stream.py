"""Responses as they are streamed: which events, in which order, and what they amount to."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from mlxd.api.openai.errors import error_body
from mlxd.api.openai.responses.format.calls import ResolvedCall
from mlxd.errors import ContextTooLong, InvalidField, MlxdError, QueueFull, RateLimited
from mlxd.events import (
    TERMINAL,
    BlockDelta,
    BlockStart,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    Timings,
    Usage,
)
from mlxd.messages import Sampling, ToolCall
from tests.api.responses import (
    CUSTOM,
    RESPONSE,
    SPACE,
    Json,
    answered,
    events_of,
    heard,
    output_of,
    response_of,
)
from tests.api.support import NOW
from tests.scripts import CRASH, SCRIPTS, STARTED, call, finished, reasoning, text

every_script = pytest.mark.parametrize("name", SCRIPTS)
WISHES: dict[str, Json] = {
    "plain": {},
    "summary": {"reasoning": {"summary": "auto"}},
    "sealed": {"include": ["reasoning.encrypted_content"]},
    "hidden": {"reasoning": {"effort": "none"}},
    "background": {"background": True},
    "silent": {"generate": False},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
}
every_wish = pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)


def kinds(script: Iterable[Event], **fields: Any) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events_of(script, **fields)]


TEXT = ["output_text.delta", "output_text.done", "content_part.done", "output_item.done"]
ADDED = ["output_item.added", "content_part.added"]
BEGUN = ["created", "in_progress"]


def test_text_is_one_message_with_one_part() -> None:
    told = [*BEGUN, *ADDED, "output_text.delta", "output_text.delta", *TEXT, "completed"]
    assert kinds(SCRIPTS["text"]) == told


def test_thinking_comes_in_an_item_of_its_own_before_the_text() -> None:
    deltas = ["reasoning_text.delta"] * 2
    thought = [*ADDED, *deltas, "reasoning_text.done", "content_part.done", "output_item.done"]
    assert kinds(SCRIPTS["reasoning_then_text"]) == [*BEGUN, *thought, *ADDED, *TEXT, "completed"]


def test_thinking_is_told_as_its_summary_where_a_summary_is_asked_for() -> None:
    part = "reasoning_summary_part"
    deltas = ["reasoning_summary_text.delta"] * 2
    thought = ["output_item.added", f"{part}.added", *deltas, "reasoning_summary_text.done"]
    script = SCRIPTS["reasoning_then_text"]
    for asked in ({"summary": "auto"}, {"generate_summary": "concise"}):
        told = kinds(script, reasoning=asked)
        end = [f"{part}.done", "output_item.done", *ADDED, *TEXT, "completed"]
        assert told == [*BEGUN, *thought, *end]
    item = output_of(script, reasoning={"summary": "detailed"})[0]
    assert item["summary"] == [{"type": "summary_text", "text": "The user greets."}]
    assert "content" not in item


@pytest.mark.parametrize("wish", [{"effort": "none"}, {"summary": "none"}])
def test_thinking_that_nobody_wants_is_no_item(wish: Json) -> None:
    script = SCRIPTS["reasoning_then_text"]
    assert kinds(script, reasoning=wish) == kinds(SCRIPTS["text"])[:4] + [*TEXT, "completed"]


def test_hidden_thinking_can_still_travel() -> None:
    include = ["reasoning.encrypted_content"]
    output = output_of(
        SCRIPTS["reasoning_then_text"], reasoning={"effort": "none"}, include=include
    )
    item = output[0]
    assert (item["type"], item["summary"], "content" in item) == ("reasoning", [], False)
    assert "greets" not in item["encrypted_content"]


def test_a_call_streams_its_arguments_and_ends_with_its_name() -> None:
    events = events_of(SCRIPTS["tool_call"])
    told = [event["type"].removeprefix("response.") for event in events]
    deltas = ["function_call_arguments.delta"] * 2
    end = ["function_call_arguments.done", "output_item.done", "completed"]
    assert told == [*BEGUN, "output_item.added", *deltas, *end]
    assert events[-3]["name"] == "get_weather"
    assert events[2]["item"]["arguments"] == ""
    assert json.loads(events[-2]["item"]["arguments"]) == {"city": "Paris"}


def test_a_custom_tool_is_called_with_text() -> None:
    script = (STARTED, *call(0, "run", '{"in', 'put":"1 + 1"}'), finished("tool_calls"))
    events = events_of(script, tools=[CUSTOM])
    told = [event["type"].removeprefix("response.") for event in events]
    end = ["custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done"]
    assert told == [*BEGUN, "output_item.added", *end, "completed"]
    item = events[-2]["item"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "run", "1 + 1")
    assert item["id"].startswith("ctc_")


def test_a_tool_of_a_namespace_is_called_by_its_own_name() -> None:
    script = (
        STARTED,
        *call(0, "files__open", "{}"),
        *call(1, "files__sed", '{"input":"s"}'),
        finished("tool_calls"),
    )
    function, custom = output_of(script, tools=[SPACE])
    assert (function["name"], function["namespace"]) == ("open", "files")
    assert (custom["name"], custom["namespace"], custom["input"]) == ("sed", "files", "s")


@every_script
@every_wish
def test_events_are_numbered_without_a_gap_and_name_their_items(name: str, wish: Json) -> None:
    events = events_of(SCRIPTS[name], **wish)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    open_items: dict[int, str] = {}
    for event in events:
        match event:
            case {"type": "response.output_item.added", "output_index": index, "item": item}:
                assert index == len(open_items)
                open_items[index] = item["id"]
            case {"type": "response.output_item.done", "output_index": index, "item": item}:
                assert open_items[index] == item["id"]
            case {"output_index": index, "item_id": item_id}:
                assert open_items[index] == item_id
            case _:
                assert "response" in event or event["type"] == "error"


@every_script
@every_wish
def test_the_end_repeats_the_items_that_were_done(name: str, wish: Json) -> None:
    events = events_of(SCRIPTS[name], **wish)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done
    assert len({item["id"] for item in done}) == len(done)


@every_script
@every_wish
def test_what_is_stored_is_what_will_be_told(name: str, wish: Json) -> None:
    renderer = answered(**wish).renderer
    *before, last = SCRIPTS[name]
    for event in before:
        list(renderer.frames(0, event))
    assert isinstance(last, TERMINAL)
    running = renderer.snapshot()
    final = renderer.final(last)
    assert renderer.snapshot() == running
    frames = list(renderer.frames(0, last))
    assert final.body == renderer.snapshot()
    assert final.state == final.body["status"]
    assert [json.loads(item.body) for item in final.output] == final.body["output"]
    told = [json.loads(frame.data) for frame in frames if frame.event]
    assert told[-1]["response"] == final.body


def test_an_answer_that_could_not_be_stored_has_failed_after_all() -> None:
    renderer = answered().renderer
    *before, last = SCRIPTS["text"]
    for event in before:
        list(renderer.frames(0, event))
    assert isinstance(last, Finished)
    assert renderer.final(last).state == "completed"
    list(renderer.frames(0, Failed(CRASH.report())))
    assert renderer.snapshot()["status"] == "failed"


def test_an_answer_cut_short_ends_with_an_incomplete_item() -> None:
    events = events_of(SCRIPTS["length"])
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert (response["status"], response["completed_at"]) == ("incomplete", None)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    (item,) = output_of(SCRIPTS["empty"])
    assert [part["text"] for part in item["content"]] == [""]


@pytest.mark.parametrize("name", ["text", "length", "reasoning_then_tool_call", "empty"])
def test_a_client_that_only_gets_ready_is_told_nothing_but_the_end(name: str) -> None:
    assert kinds(SCRIPTS[name], generate=False) == ["created", "in_progress", "completed"]
    assert output_of(SCRIPTS[name], generate=False) == []
    assert heard(generate=False, max_output_tokens=100).max_tokens == 1


def test_a_completed_response_says_when() -> None:
    timings = Timings(queue=1.0, prefill=2.0, decode=3.4)
    end = Finished("stop", usage=Usage(3, 2, 5, 1), timings=timings)
    response = response_of((Started("demo", 3), *text(0, "Hi"), end))
    assert response["completed_at"] == NOW + 6
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }


def test_a_response_tells_how_its_model_samples_where_the_request_does_not_say() -> None:
    usual = Sampling(temperature=0.0, top_p=0.9, top_k=20)
    script = (Started("demo", 3, usual), *text(0, "Hi"), Finished("stop", usage=Usage(3, 0, 1)))
    for given, expected in (
        ({}, (0.0, 0.9)),
        ({"temperature": 0.4}, (0.4, 0.9)),
        ({"top_p": 0}, (0.0, 0)),
        ({"temperature": 1.5, "top_p": 0.2}, (1.5, 0.2)),
    ):
        response = response_of(script, **given)
        assert (response["temperature"], response["top_p"]) == expected
    unknown = response_of(SCRIPTS["text"])
    assert (unknown["temperature"], unknown["top_p"]) == (1.0, 1.0)


def test_logprobs_come_with_the_text_when_they_are_asked_for() -> None:
    wish = WISHES["logprobs"]
    events = events_of(SCRIPTS["logprobs"], **wish)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [len(delta["logprobs"]) for delta in deltas] == [1, 2]
    part = events[-1]["response"]["output"][0]["content"][0]
    assert part["logprobs"] == [each for delta in deltas for each in delta["logprobs"]]
    assert part["logprobs"][0]["top_logprobs"][1]["token"] == "Good"
    plain = events_of(SCRIPTS["logprobs"])
    assert all(not event.get("logprobs") for event in plain)


def started(**wish: Any) -> ResolvedCall:
    answer = answered(**wish)
    list(answer.renderer.frames(0, STARTED))
    return answer


def test_a_waiting_stream_says_again_that_it_is_in_progress() -> None:
    renderer = started().renderer
    list(renderer.frames(0, Progress("queued", total=12)))
    first, second = [json.loads(frame.data) for _ in range(2) for frame in renderer.idle()]
    assert first["type"] == second["type"] == "response.in_progress"
    assert (first["sequence_number"], second["sequence_number"]) == (2, 3)
    assert first["response"]["id"] == RESPONSE
    (frame, *_) = renderer.frames(0, next(text(0, "Hi")))
    assert json.loads(frame.data)["sequence_number"] == 4


def test_a_background_response_is_queued_until_it_begins() -> None:
    answer = answered(background=True)
    assert answer.renderer.snapshot()["status"] == "queued"
    frames = [json.loads(frame.data) for frame in answer.renderer.frames(0, STARTED)]
    told = [(each["type"], each["response"]["status"]) for each in frames]
    assert told == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
        ("response.in_progress", "in_progress"),
    ]
    assert answer.renderer.snapshot()["status"] == "in_progress"


def half_a_call(name: str) -> list[Event]:
    return [BlockStart(0, ToolCall("call_0", name, "")), BlockDelta(0, '{"in')]


def test_cancelling_keeps_what_was_written() -> None:
    renderer = started(background=True).renderer
    for event in (*reasoning(0, "Hm."), *list(text(1, "One", "two"))[:2]):
        list(renderer.frames(0, event))
    assert [item["status"] for item in renderer.snapshot()["output"]] == [
        "completed",
        "in_progress",
    ]
    *frames, done = renderer.cancel(Usage(7, 0, 3))
    assert done.data == b"[DONE]"
    last = json.loads(frames[-1].data)
    assert last["response"] == renderer.snapshot()
    assert renderer.snapshot()["status"] == "cancelled"
    assert renderer.snapshot()["usage"]["total_tokens"] == 10
    assert [item["status"] for item in renderer.snapshot()["output"]] == [
        "completed",
        "incomplete",
    ]
    assert list(renderer.cancel(Usage())) == []


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        (list(text(0, "One", "two"))[:2], {"type": "message", "text": "One"}),
        (list(reasoning(0, "Hm."))[:2], {"type": "reasoning", "text": "Hm."}),
        (half_a_call("get_weather"), {"type": "function_call", "arguments": '{"in'}),
        (half_a_call("patch"), {"type": "custom_tool_call", "input": ""}),
    ],
)
def test_the_item_that_is_being_written_is_shown_as_far_as_it_is(
    events: list[Event], shown: Json
) -> None:
    renderer = started(tools=[{"type": "custom", "name": "patch"}]).renderer
    for event in events:
        list(renderer.frames(0, event))
    (item,) = renderer.snapshot()["output"]
    (part,) = item.get("content", [{}])
    assert (part | item).items() >= {**shown, "status": "in_progress"}.items()


def test_cancelling_before_the_beginning_is_an_end_too() -> None:
    renderer = answered(background=True).renderer
    frame, _ = renderer.cancel(Usage())
    assert json.loads(frame.data)["response"]["status"] == "cancelled"
    assert renderer.snapshot()["output"] == []


@pytest.mark.parametrize("end", [None, Failed(CRASH.report())], ids=["cancelled", "failed"])
def test_nobody_gets_to_see_half_a_call_as_a_whole_one(end: Failed | None) -> None:
    renderer = started().renderer
    list(renderer.frames(0, BlockStart(0, ToolCall("call_0", "get_weather", ""))))
    frames = list(renderer.frames(0, end) if end else renderer.cancel(Usage()))
    assert not any(frame.event == "response.output_item.done" for frame in frames)
    assert renderer.snapshot()["output"] == []


def test_an_error_in_a_stream_is_told_twice_and_the_stream_ends() -> None:
    events = events_of(SCRIPTS["failure_inside_a_block"])
    error, failed = events[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert error["message"] == error["error"]["message"] == str(CRASH)
    assert set(error["error"]) == {"type", "code", "message", "param"}
    assert failed["response"]["error"] == {"code": "server_error", "message": str(CRASH)}
    assert failed["response"]["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContextTooLong(9, 8), "context_length_exceeded"),
        (RateLimited(), "rate_limit_exceeded"),
        (InvalidField("input", "value", "No."), "invalid_prompt"),
        (QueueFull(limit=1), "server_error"),
    ],
)
def test_clients_can_tell_by_the_code_whether_to_try_again(error: MlxdError, code: str) -> None:
    response = response_of((STARTED, Failed(error.report())))
    message = error_body(error, prompt="input")["error"]["message"]
    assert response["error"] == {"code": code, "message": message}
