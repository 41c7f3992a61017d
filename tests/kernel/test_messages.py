"""Requests are immutable values that mean the same after any journey."""

from typing import Any

import msgspec
import pytest

from mlxd import messages
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    GrammarOutput,
    Image,
    JsonOutput,
    JsonSchemaOutput,
    Message,
    NamedTool,
    NoTools,
    Output,
    Part,
    Reasoning,
    RegexOutput,
    RequiredTools,
    Sampling,
    Text,
    TextOutput,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

PARTS: tuple[Part, ...] = (
    Text("a"),
    Reasoning("b", "signature"),
    Image(b"\x00\xff", "image/png"),
    ToolCall("c1", "ls", '{"path":"."}'),
    ToolResult("c1", (Text("x"), Image(b"", "image/gif")), is_error=True),
)
CHOICES: tuple[ToolChoice, ...] = (
    *(AutoTools(), NoTools(), RequiredTools(), NamedTool("a")),
    AllowedTools(("a", "b"), required=True),
)
OUTPUTS: tuple[Output, ...] = (
    *(TextOutput(), JsonOutput(), JsonSchemaOutput("{}", "name", strict=True)),
    *(RegexOutput("a+"), GrammarOutput("start: 'a'")),
)
STRUCTS = [
    cls
    for cls in vars(messages).values()
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct
]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_request_is_the_same_after_a_journey(choice: ToolChoice, output: Output) -> None:
    request = GenerateRequest(
        id="r",
        model="m",
        messages=(Message("user", PARTS),),
        tools=(Tool("ls"),),
        tool_choice=choice,
        output=output,
        sampling=Sampling(logit_bias={1: 2.0}),
    )
    for encode, decode in (
        (msgspec.msgpack.encode, msgspec.msgpack.decode),
        (msgspec.json.encode, msgspec.json.decode),
    ):
        assert decode(encode(request), type=GenerateRequest) == request


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_values_can_not_be_changed(cls: type[Any]) -> None:
    assert cls.__struct_config__.frozen


@pytest.mark.parametrize("wire", [{"type": "video"}, {"type": "text"}, {"text": "a"}])
def test_a_part_of_no_known_kind_is_refused(wire: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire, type=Part)


def test_a_tool_without_a_schema_takes_an_object() -> None:
    schema = msgspec.json.decode(Tool("ls").parameters)
    assert schema == {"type": "object", "properties": {}}


def test_the_defaults_of_two_requests_are_not_one_object() -> None:
    one, other = (GenerateRequest(id="r", model="m", messages=()) for _ in range(2))
    assert one == other
    assert one.template_args is not other.template_args


def test_sampling_that_is_merged_keeps_what_it_says_itself() -> None:
    own = Sampling(temperature=0.0, top_k=0, logit_bias={1: 2.0})
    over = Sampling(temperature=1.0, top_p=0.5, top_k=7, seed=3)
    expected = Sampling(temperature=0.0, top_p=0.5, top_k=0, logit_bias={1: 2.0}, seed=3)
    assert own.merged(over) == expected
    assert own.merged(Sampling()) == Sampling().merged(own) == own
