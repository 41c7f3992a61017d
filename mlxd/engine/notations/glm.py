"""GLM's calls: pairs of tags for keys and values; Laguna, LongCat and Hy3 write alike."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.any_calls import TOOL_CALL, any_calls
from mlxd.engine.notations.reading.calls import CallReader
from mlxd.engine.notations.reading.pairs import Pairs, paired_call, paired_calls


def _form(pairs: Pairs) -> Form:
    key, value = pairs.closing("arg_key"), pairs.tag("arg_value")
    return Form(
        (f"{pairs.call}{{name}}{pairs.behind_name}\n", pairs.end),
        between="\n",
        json=False,
        member=(f"{pairs.tag('arg_key')}{{key}}{key}\n{value}", f"{pairs.closing('arg_value')}\n"),
        marks=pairs.marks,
    )


_LONGCAT_PAIRS = Pairs(end="</longcat_tool_call>", prefix="longcat_")

GLM47 = Notation("glm47", _form(Pairs()), TOOL_CALL)
LAGUNA = replace(GLM47, name="laguna")
LONGCAT = Notation(
    "longcat",
    _form(_LONGCAT_PAIRS),
    {"<longcat_tool_call>": partial(any_calls, end=_LONGCAT_PAIRS.end, pairs=_LONGCAT_PAIRS)},
)


def _hy3(suffix: str) -> Pairs:
    return Pairs(
        f"</tool_call{suffix}>",
        suffix=suffix,
        behind_name=f"<tool_sep{suffix}>",
        region=f"<tool_calls{suffix}>",
    )


def _starts(pairs: Pairs) -> Mapping[str, CallReader]:
    return {
        pairs.region: partial(paired_calls, pairs=pairs),
        pairs.call: partial(paired_call, pairs=pairs),
    }


# The open models have this suffix in all their tags.
_HY3_PAIRS = _hy3(":opensource")
HY3 = Notation(
    "hy_v3",
    replace(_form(_HY3_PAIRS), region=(f"{_HY3_PAIRS.region}\n", f"\n{_HY3_PAIRS.region_end}")),
    {**_starts(_HY3_PAIRS), **_starts(_hy3(""))},
    tokens=(_HY3_PAIRS.behind_name,),
    signs=("<tool_sep{}>",),
)
