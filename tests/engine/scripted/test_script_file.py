"""Script files: every form plays as written, and a bad file says where it is bad."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from mlxd.engine.scripted.engine import Play, ScriptedEngine, load_script
from mlxd.errors import ConfigError, InternalError, OutOfMemory, QueueFull
from mlxd.events import BlockDelta, BlockEnd, BlockStart, Failed, Finished, Started, Usage
from mlxd.messages import NoTools, Reasoning, Text, Tool, ToolCall
from tests.engine.support import answer_of, ask, events_of, kinds, then, tool_result, user


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "script.json")


class Writer:
    """Writes a script file and loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *answers: object) -> Play:
        self.path.write_text(json.dumps(answers), encoding="utf-8")
        return load_script(self.path)

    def engine(self, *answers: object) -> ScriptedEngine:
        return ScriptedEngine(self(*answers))

    def complaint(self, *answers: object) -> ConfigError:
        with pytest.raises(ConfigError) as failure:
            self(*answers)
        assert failure.value.file == str(self.path)
        return failure.value


async def test_short_forms_become_whole_blocks(write: Writer) -> None:
    engine = write.engine(
        [
            {"reasoning": "Let me see."},
            {"pause": 0},
            {"text": "I look."},
            {"tool_call": {"name": "read", "arguments": {"path": "README.md"}}},
        ]
    )
    answer = await answer_of(engine, ask())
    assert answer.parts[:2] == (Reasoning("Let me see."), Text("I look."))
    (call,) = answer.tool_calls
    assert (call.name, call.arguments) == ("read", '{"path": "README.md"}')
    assert answer.finished.reason == "tool_calls"


async def test_text_comes_in_several_deltas_that_are_always_the_same(write: Writer) -> None:
    play = write([{"text": "Hello there, friend"}])
    events = await events_of(ScriptedEngine(play), ask())
    assert [event.text for event in events if isinstance(event, BlockDelta)] == [
        *("Hello", " there", ",", " friend")
    ]
    assert events == await events_of(ScriptedEngine(play), ask())


async def test_a_call_has_the_written_id_or_one_of_its_own_for_each_request(write: Writer) -> None:
    written = {"tool_call": {"name": "a", "id": "call_x", "arguments": "{not json"}}
    engine = write.engine([written, {"tool_call": {"name": "b"}}])
    first, second = (await answer_of(engine, ask())).tool_calls
    assert first == ToolCall("call_x", "a", "{not json")
    other = (await answer_of(engine, replace(ask(), id="other"))).tool_calls[1]
    assert second.id.startswith("call_")
    assert second.id != other.id
    assert second == (await answer_of(engine, ask())).tool_calls[1]


async def test_the_end_can_be_written(write: Writer) -> None:
    usage = {"prompt": 9, "cached": 4, "completion": 3}
    end = {"reason": "stop_sequence", "stop_sequence": "END", "usage": usage}
    engine = write.engine([{"text": "a"}, {"finish": "length"}], [{"finish": end}])
    assert (await answer_of(engine, ask())).finished.reason == "length"
    finished = (await answer_of(engine, ask())).finished
    assert finished == Finished("stop_sequence", Usage(9, 4, 3), stop_sequence="END")


async def test_a_failure_comes_inside_the_stream_and_a_refusal_before_it(write: Writer) -> None:
    report = {"kind": "OutOfMemory", "facts": {"reason": "full"}}
    engine = write.engine(
        [{"text": "a"}, {"fail": report}],
        [{"refuse": {"kind": "QueueFull", "facts": {"limit": 3}}}],
    )
    events = await events_of(engine, ask())
    assert isinstance(failed := events[-1], Failed)
    assert failed.error == OutOfMemory("full").report()
    with pytest.raises(QueueFull, match="3 requests"):
        await events_of(engine, ask())


async def test_events_may_be_written_as_the_kernel_tags_them(write: Writer) -> None:
    events = [
        Started("model", 3),
        BlockStart(0, Text("")),
        BlockDelta(0, "Hi"),
        BlockEnd(0, Text("Hi")),
        Finished("stop", Usage(3, 0, 2)),
    ]
    engine = write.engine([msgspec.to_builtins(event) for event in events])
    assert await events_of(engine, ask()) == events


async def test_tagged_blocks_and_short_ones_share_one_numbering(write: Writer) -> None:
    tagged = [msgspec.to_builtins(event) for event in (BlockStart(0, Text("")),)]
    end = msgspec.to_builtins(BlockEnd(0, Text("")))
    engine = write.engine([*tagged, end, {"text": "after"}])
    assert (await answer_of(engine, ask())).text == "after"


async def test_answers_are_played_in_turn_and_the_last_one_repeats(write: Writer) -> None:
    engine = write.engine([{"text": "one"}], [{"text": "two"}])
    texts = [(await answer_of(engine, ask())).text for _ in range(4)]
    assert texts == ["one", "two", "two", "two"]


async def test_an_empty_answer_can_be_written(write: Writer) -> None:
    assert kinds(await events_of(write.engine([]), ask())) == ["Started", "Finished"]


async def test_the_stream_starts_before_a_pause_that_stands_first(write: Writer) -> None:
    async with write.engine([{"pause": 60}, {"text": "a"}]).generate(ask()) as generation:
        assert kinds(await anext(generation)) == ["Started"]


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({}, "none tools no_tools result"),
        ({"tools": True}, "tools result"),
        ({"tools": False}, "none no_tools"),
        ({"after_tool_result": True}, "result"),
        ({"after_tool_result": False}, "none tools no_tools"),
        ({"tools": True, "after_tool_result": False}, "tools"),
        ({"contains": "weather"}, "none tools"),
        ({"contains": "Paris"}, "no_tools result"),
    ],
)
async def test_an_answer_is_chosen_by_what_the_request_is_like(
    write: Writer, when: dict[str, object], fits: str
) -> None:
    weather = ask("How is the weather?")
    tools = replace(weather, tools=(Tool("ls"),))
    paris = then(tools, user("In Paris."))
    requests = {
        "none": weather,
        "tools": tools,
        "no_tools": replace(paris, tool_choice=NoTools()),
        "result": then(paris, tool_result("rain")),
    }
    chosen = {"when": when, "events": [{"text": "yes"}]}
    for name, request in requests.items():
        engine = write.engine(chosen, [{"text": "no"}])
        expected = "yes" if name in fits.split() else "no"
        assert (await answer_of(engine, request)).text == expected, name


async def test_the_last_fitting_answer_repeats_when_a_later_one_does_not_fit(
    write: Writer,
) -> None:
    engine = write.engine([{"text": "any"}], {"when": {"tools": True}, "events": []})
    assert [(await answer_of(engine, ask())).text for _ in range(2)] == ["any", "any"]


async def test_a_request_that_no_answer_fits_is_refused(write: Writer) -> None:
    engine = write.engine({"when": {"contains": "x"}, "events": []})
    with pytest.raises(InternalError, match="no answer of the script fits"):
        await events_of(engine, ask("Hello"))
    with pytest.raises(InternalError):
        await events_of(engine, replace(ask(), messages=()))


@pytest.mark.parametrize(
    ("answers", "key", "reason"),
    [
        ([], "", "a list of at least one answer"),
        (["text"], "0", "Expected `array`, got `str`"),
        ([["text"]], "0.0", "Expected `object`, got `str`"),
        ([[{"text": 1}]], "0.0", "Expected `str`, got `int`"),
        ([[{"text": "a", "pause": 1}]], "0.0", "unknown field `pause`"),
        ([[{"txt": "a"}]], "0.0", "one of: text, reasoning, tool_call"),
        ([[{"pause": -1}]], "0.0", ">= 0"),
        ([[], [{"finish": "end"}]], "1.0", "Invalid enum value 'end'"),
        ([[{"type": "finished", "reason": "end"}]], "0.0", "Invalid enum value 'end'"),
        ([[{"type": "finish"}]], "0.0", "Invalid value 'finish'"),
        ([{"when": {"tool": True}, "events": []}], "0", "unknown field `tool`"),
        ([{"when": {}}], "0", "missing required field `events`"),
        ([{"events": [{"text": 1}]}], "0.events.0", "Expected `str`"),
        ([[{"finish": "stop"}, {"text": "a"}]], "0", "after the terminal event"),
        ([[{"type": "block_delta", "index": 0, "text": "a"}]], "0", "its block is not open"),
        ([[{"fail": {"kind": "Oops", "facts": {}}}]], "0.0", "`kind` is one of: "),
        ([[{"refuse": {"kind": "QueueFull", "facts": {"x": 1}}}]], "0.0", "`facts` do not fit"),
        ([[{"text": "a"}, {"refuse": {"kind": "QueueFull", "facts": {}}}]], "0", "stands alone"),
    ],
)
def test_a_bad_answer_is_refused_with_its_place(
    write: Writer, answers: list[object], key: str, reason: str
) -> None:
    error = write.complaint(*answers)
    assert error.key == key
    assert reason in error.reason


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        (b'[[{"text": "a"]]', "line 1 column 15", "not JSON"),
        (b"[\n[,", "line 2 column 2", "not JSON"),
        (b'["\xff"]', "", "byte 2 is not UTF-8"),
        (b"[" * 100_000, "", "nested too deeply"),
        (b'{"events": []}', "", "a list of at least one answer"),
    ],
)
def test_a_file_that_is_no_json_is_refused_with_the_place(
    write: Writer, content: bytes, key: str, reason: str
) -> None:
    write.path.write_bytes(content)
    with pytest.raises(ConfigError) as failure:
        load_script(write.path)
    assert failure.value.key == key
    assert reason in failure.value.reason


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file or directory"):
        load_script(tmp_path / "none.json")
