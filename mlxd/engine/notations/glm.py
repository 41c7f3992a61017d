"""GLM's calls: pairs of tags for keys and values; Laguna and LongCat write alike."""

from dataclasses import replace
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.any_calls import TOOL_CALL, any_calls
from mlxd.engine.notations.reading.pairs import Pairs


def _form(prefix: str, call: str, pairs: Pairs) -> Form:
    return Form(
        (f"<{call}>{{name}}\n", f"</{call}>"),
        between="\n",
        json=False,
        member=(
            f"<{prefix}arg_key>{{key}}</{prefix}arg_key>\n<{prefix}arg_value>",
            f"</{prefix}arg_value>\n",
        ),
        marks=pairs.marks,
    )


_LONGCAT_PAIRS = Pairs(end="</longcat_tool_call>", prefix="longcat_")

GLM47 = Notation("glm47", _form("", "tool_call", Pairs()), TOOL_CALL)
LAGUNA = replace(GLM47, name="laguna")
LONGCAT = Notation(
    "longcat",
    _form("longcat_", "longcat_tool_call", _LONGCAT_PAIRS),
    {"<longcat_tool_call>": partial(any_calls, end=_LONGCAT_PAIRS.end, pairs=_LONGCAT_PAIRS)},
)
