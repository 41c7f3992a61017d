"""The notations in which models write tool calls, read while the text arrives.

What a reader promises, whatever the model writes:

- A call is opened as soon as an offered tool's name is known, and its arguments follow as text that
  adds up to what a non-streaming answer has. Arguments in JSON are copied as the model wrote them;
  other notations are turned into JSON by the tool's schema.
- Before a call is opened nothing is decided: markup that turns out to be no call, or that names a
  tool that was not offered, is text again, word for word, and a note says why.
- Arguments are repaired only where one reading is possible (see `values`). Brackets are closed only
  behind a whole value, where the model itself ended the call or its answer; never where the length
  limit cut it.
- Arguments that break after a part of them was sent can't be taken back. The rest of the call up to
  its closing marker then follows as it is: the caller gets all that the model wrote, which does not
  parse, and can tell the model so. Cutting it, or closing it, could run a tool with half of its
  arguments. A call that the text ends in keeps what was sent. A note says so in both cases.
- The model's own id of a call is kept if it has at most 64 plain characters and is new in the
  conversation; else the call gets one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from mlxd.engine.notations.gemma import gemma_calls, gemma_style
from mlxd.engine.notations.marked import (
    DEEPSEEK_CALL,
    DEEPSEEK_SECTION,
    KIMI_CALL,
    KIMI_SECTION,
    MISTRAL_CALL,
    deepseek_call,
    deepseek_section,
    kimi_call,
    kimi_section,
    mistral_calls,
)
from mlxd.engine.notations.pythonic import pythonic_calls
from mlxd.engine.notations.reading.calls import Calls, NotACall, Reader
from mlxd.engine.notations.reading.headers import HARMONY, MUSE, Headers
from mlxd.engine.notations.reading.json_calls import Frame, json_calls
from mlxd.engine.notations.reading.pairs import GLM, LONGCAT, Pairs, paired_call
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import ANY, OBJECT_OR_STRING
from mlxd.engine.notations.reading.tags import Tags, tagged_call, tagged_calls

QWEN = Tags(
    call="<function=",
    call_end="</function>",
    param="<parameter=",
    param_end="</parameter>",
    region_end="</tool_call>",
    lines=True,
    untyped=OBJECT_OR_STRING,
)
MINIMAX = Tags(
    call="<invoke name=",
    call_end="</invoke>",
    param="<parameter name=",
    param_end="</parameter>",
    region_end="</minimax:tool_call>",
    named_by="name",
    keyed_by="name",
)
MINICPM = Tags(
    call="<function name=",
    call_end="</function>",
    param="<param name=",
    param_end="</param>",
    named_by="name",
    keyed_by="name",
    cdata=True,
)
MUSE_SPARK = Tags(
    call="<atem:invoke",
    call_end="</atem:invoke>",
    param="<atem:parameter",
    param_end="</atem:parameter>",
    region_end="</atem:function_calls>",
    named_by="name",
    keyed_by="name",
    unknown=ANY,
    untyped=ANY,
)
DSML = Tags(
    call="<｜DSML｜invoke",
    call_end="</｜DSML｜invoke>",
    param="<｜DSML｜parameter",
    param_end="</｜DSML｜parameter>",
    region_end="</｜DSML｜function_calls>",
    named_by="name",
    keyed_by="name",
    typed_by="string",
)
XTML = Tags(
    call="<|open|>call",
    call_end="<|close|>call<|sep|>",
    param="<|open|>argument",
    param_end="<|close|>argument<|sep|>",
    region_end="<|close|>tools<|sep|>",
    head_end="<|sep|>",
    named_by="tool",
    keyed_by="key",
    typed_by="type",
    whole=("<|open|>json", "<|close|>json<|sep|>"),
)


def _region(scan: Scanner, calls: Calls, *, end: str, pairs: Pairs = GLM) -> Steps[None]:
    """A region that several families open alike: JSON, tags or pairs, as its content tells."""
    yield from scan.space()
    if scan.char in ("{", "["):
        yield from json_calls(scan, calls, Frame(markers_of(end)))
    elif scan.char == "<":
        yield from tagged_calls(scan, calls, QWEN)
    else:
        yield from paired_call(scan, calls, pairs)


def _bare(scan: Scanner, calls: Calls, *, keys: tuple[str, ...] = ("arguments",)) -> Steps[None]:
    """JSON calls without any markup, or in a code fence."""
    stops = markers_of()
    if (yield from scan.accept("```")):
        kind = yield from scan.upto("\n", 16)
        if kind is None or kind.strip() not in ("", "json", "tool_call"):
            raise NotACall("it is code", remark=False)
        stops = markers_of("```")
    yield from json_calls(scan, calls, Frame(stops, bare=True, keys=keys))


_EITHER_KEY = ("arguments", "parameters")
BARE_BEGINS = ("{", "[", "`")
"""What a call without markup can begin with."""


@dataclass(frozen=True)
class Notation:
    """How one family of models writes calls.

    `starts` maps each opening marker to the reader of what follows it; `bare` reads calls without
    markup where an answer begins; `headers` are set for families that write messages.
    """

    starts: Mapping[str, Reader] = field(default_factory=dict)
    bare: Reader | None = _bare
    headers: Headers | None = None


def _tags(tags: Tags, region: str) -> Notation:
    starts: dict[str, Reader] = {tags.call: partial(tagged_call, tags=tags)}
    if region:
        starts[region] = partial(tagged_calls, tags=tags)
    return Notation(starts)


def _gemma(start: str, end: str, quote: str) -> Notation:
    return Notation({start: partial(gemma_calls, style=gemma_style(quote), end=end)})


_TOOL_CALL: dict[str, Reader] = {"<tool_call>": partial(_region, end="</tool_call>")}
# Qwen2.5-Coder closes its calls in the tags that its prompt puts around the tools.
_JSON_TOOLS = Notation({**_TOOL_CALL, "<tools>": partial(_region, end="</tools>")})
_QWEN_XML = Notation({**_TOOL_CALL, QWEN.call: partial(tagged_call, tags=QWEN)})
_GLM = Notation(_TOOL_CALL)
BARE_JSON = Notation(bare=partial(_bare, keys=_EITHER_KEY))
"""For models of which nothing else is known."""

NOTATIONS: Mapping[str, Notation] = MappingProxyType(
    {
        "json_tools": _JSON_TOOLS,
        "hermes": _JSON_TOOLS,
        "qwen3_coder": _QWEN_XML,
        "glm47": _GLM,
        "laguna": _GLM,
        "longcat": Notation(
            {"<longcat_tool_call>": partial(_region, end=LONGCAT.end, pairs=LONGCAT)}
        ),
        "gemma4": _gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
        "function_gemma": _gemma("<start_function_call>", "<end_function_call>", "<escape>"),
        "kimi_k2": Notation({KIMI_SECTION: kimi_section, KIMI_CALL: kimi_call}),
        "kimi_k3": _tags(XTML, "<|open|>tools<|sep|>"),
        "minimax_m2": _tags(MINIMAX, "<minimax:tool_call>"),
        "minicpm5": _tags(MINICPM, ""),
        "muse_spark": Notation(
            _tags(MUSE_SPARK, "<atem:function_calls>").starts, bare=None, headers=MUSE
        ),
        "mistral": Notation({MISTRAL_CALL: mistral_calls}),
        "pythonic": Notation(
            {"<|tool_call_start|>": partial(pythonic_calls, end="<|tool_call_end|>")}
        ),
        "harmony": Notation(bare=None, headers=HARMONY),
        "llama3_json": Notation(
            {"<|python_tag|>": partial(json_calls, frame=Frame())}, partial(_bare, keys=_EITHER_KEY)
        ),
        "deepseek": Notation(
            {
                DEEPSEEK_SECTION: deepseek_section,
                DEEPSEEK_CALL: deepseek_call,
                **_tags(DSML, "<｜DSML｜function_calls>").starts,
            }
        ),
        "bare_json": BARE_JSON,
    }
)
"""The notations by the name that `tool_format` gives them."""
