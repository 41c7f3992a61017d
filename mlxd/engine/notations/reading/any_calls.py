"""The region `<tool_call>`, which several families open alike and fill in three ways."""

from collections.abc import Mapping
from functools import partial

from mlxd.engine.notations.reading.calls import CallReader, Calls
from mlxd.engine.notations.reading.json_calls import JsonSurroundings, json_calls
from mlxd.engine.notations.reading.pairs import Pairs, paired_call
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import OBJECT_OR_STRING
from mlxd.engine.notations.reading.tags import Tags, tagged_calls

QWEN_TAGS = Tags(
    call="<function=",
    call_end="</function>",
    param="<parameter=",
    param_end="</parameter>",
    region="<tool_call>",
    region_end="</tool_call>",
    lines="own",
    untyped=OBJECT_OR_STRING,
)
_GLM_PAIRS = Pairs()


def any_calls(scan: Scanner, calls: Calls, *, end: str, pairs: Pairs = _GLM_PAIRS) -> Steps[None]:
    """Read JSON, tags or pairs, as the content of the region tells."""
    yield from scan.space()
    if scan.char in ("{", "["):
        yield from json_calls(scan, calls, JsonSurroundings(markers_of(end)))
    elif scan.char == "<":
        yield from tagged_calls(scan, calls, QWEN_TAGS)
    else:
        yield from paired_call(scan, calls, pairs)


TOOL_CALL: Mapping[str, CallReader] = {"<tool_call>": partial(any_calls, end="</tool_call>")}
"""The region's opening marker with its reader, for the families that write it."""
