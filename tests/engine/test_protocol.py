"""Frames survive any cutting, every message survives the wire, and nothing else is taken."""

import struct

import msgspec
import pytest

from mlxd.engine.interface import Markup
from mlxd.engine.protocol import (
    MAX_FRAME,
    Accepted,
    Answered,
    Cancel,
    Command,
    Configure,
    Count,
    DecodeRow,
    EndRow,
    EngineLimits,
    FrameReader,
    Load,
    ModelChanged,
    ModelSpec,
    PrefillRow,
    Ready,
    Refused,
    Reply,
    Shutdown,
    Stats,
    Step,
    Submit,
    Unload,
    decode_command,
    decode_reply,
    encode,
)
from mlxd.errors import ContextTooLong
from mlxd.events import CacheNote, Timings, TokenLogprob, TopLogprob
from mlxd.messages import (
    AllowedTools,
    GenerateRequest,
    GrammarOutput,
    Image,
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from mlxd.status import EngineFigures, RowFigures

REQUEST = GenerateRequest(
    id="req_1",
    model="small",
    messages=(
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("What is this? \N{WHALE}\x00"), Image(b"\x89PNG\0", "image/png"))),
        Message("assistant", (Reasoning("Hm", "sig"), ToolCall("c1", "ls", '{"path": "."}'))),
        Message("tool", (ToolResult("c1", (Text("README.md"),), is_error=True),)),
    ),
    tools=(Tool("ls", "Lists", '{"type":"object"}', strict=True),),
    tool_choice=AllowedTools(("ls",), required=True),
    parallel_tools=False,
    sampling=Sampling(temperature=0.5, top_k=3, logit_bias={42: -100.0}, seed=7),
    max_tokens=5,
    stop=("END",),
    output=GrammarOutput("start: 'a'"),
    reasoning=ReasoningOptions(mode="strip", enabled=True, effort="low", budget=9),
    logprobs=2,
    template_args={"enable_thinking": False, "n": 1, "x": 0.5, "s": "t", "none": None},
    source=Source("openai_chat", "key", "conv"),
)
SPEC = ModelSpec(
    "small",
    "demo",
    aliases=("gpt-*",),
    context_length=100,
    sampling=Sampling(top_p=0.9),
    template_args={"a": True},
    reasoning_tags=("<think>", "</think>"),
)
COMMANDS: tuple[Command, ...] = (
    Configure((SPEC,), EngineLimits(max_batch=4), preload="small"),
    Submit(1, REQUEST),
    Cancel(1),
    Count(2, REQUEST),
    Load(3, "small"),
    Unload(4, "small"),
    Shutdown(),
)
NOTE = CacheNote("evicted", "earlier prompts were dropped to free memory")
FIGURES = RowFigures(prompt_tokens=20, cached_tokens=3, prefilled_tokens=5, cache_note=NOTE)
LOGPROB = TokenLogprob("a", -0.5, b"a", (TopLogprob("\N{WHALE}", -1.5, b"\xf0\x9f"),))
REPLIES: tuple[Reply, ...] = (
    Ready("cpu", "openblas", 1 << 40),
    ModelChanged("small", "loaded", 100, 1 << 35, markup=Markup((("<a>", "</a>"),), "hermes")),
    Accepted(1, 20, opens_reasoning=True),
    Answered(2, 7),
    Refused(3, ContextTooLong(9, 8).report()),
    Step(
        (PrefillRow(1, FIGURES),),
        (
            DecodeRow(1, FIGURES, "a", 1, (LOGPROB,)),
            DecodeRow(
                2, FIGURES, "", 1, end=EndRow("stop_sequence", "END", Timings(1.0, 2.0, 3.0))
            ),
        ),
        0.5,
    ),
    Stats(EngineFigures(memory_used=1, memory_peak=2, prefix_entries=3, prefix_hits=5)),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_every_command_survives_the_wire(command: Command) -> None:
    (body,) = FrameReader().feed(encode(command))
    assert decode_command(body) == command


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_survives_the_wire(reply: Reply) -> None:
    (body,) = FrameReader().feed(encode(reply))
    assert decode_reply(body) == reply


def test_frames_come_out_whole_wherever_the_stream_is_cut() -> None:
    stream = b"".join(map(encode, REPLIES))
    for cut in range(len(stream) + 1):
        reader = FrameReader()
        bodies = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])]
        assert tuple(map(decode_reply, bodies)) == REPLIES


def test_frames_come_out_whole_byte_by_byte() -> None:
    reader = FrameReader()
    stream = b"".join(map(encode, COMMANDS))
    bodies = [body for at in range(len(stream)) for body in reader.feed(stream[at : at + 1])]
    assert tuple(map(decode_command, bodies)) == COMMANDS


def test_a_frame_longer_than_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(ValueError, match=f"frame of {MAX_FRAME + 1} bytes"):
        list(FrameReader().feed(struct.pack(">I", MAX_FRAME + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"garbage",
        msgspec.msgpack.encode({"type": "unheard_of"}),
        msgspec.msgpack.encode({"type": "accepted", "id": "one", "prompt_tokens": 1}),
        msgspec.msgpack.encode({"type": "accepted"}),
        msgspec.msgpack.encode({"type": "step", "decode": [[1]]}),
        msgspec.msgpack.encode({"type": "cancel", "id": 1}),
    ],
)
def test_what_is_no_reply_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_reply(body)


def test_a_reply_is_no_command() -> None:
    (body,) = FrameReader().feed(encode(Answered(1)))
    with pytest.raises(msgspec.DecodeError):
        decode_command(body)
