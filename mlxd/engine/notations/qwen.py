"""Qwen's calls, which many families write too: JSON or nested tags in a region `<tool_call>`.

Seed-OSS has the tags in a region of its own.
"""

from dataclasses import replace
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.any_calls import QWEN_TAGS, TOOL_CALL, any_calls
from mlxd.engine.notations.reading.tags import Tags, tag_starts, tagged_call

JSON_TOOLS = Notation(
    "json_tools",
    Form(
        ('<tool_call>\n{{"name": "{name}", "arguments": ', "}}\n</tool_call>"),
        between="\n",
    ),
    # Qwen2.5-Coder closes its calls in the tags that its prompt puts around the tools.
    {**TOOL_CALL, "<tools>": partial(any_calls, end="</tools>")},
    signs=("<tool_call>",),
)
HERMES = replace(JSON_TOOLS, name="hermes")


def _tagged_form(region: str, tags: Tags) -> Form:
    return Form(
        (f"<{region}>\n<function={{name}}>\n", f"</function>\n</{region}>"),
        between="\n",
        json=False,
        member=("<parameter={key}>\n", "\n</parameter>\n"),
        marks=tags.marks,
    )


QWEN3_CODER = Notation(
    "qwen3_coder",
    _tagged_form("tool_call", QWEN_TAGS),
    {**TOOL_CALL, QWEN_TAGS.call: partial(tagged_call, tags=QWEN_TAGS)},
    signs=("<function=",),
)
_SEED_TAGS = replace(
    QWEN_TAGS, region="<seed:tool_call>", region_end="</seed:tool_call>", lines="either"
)
SEED_OSS = Notation(
    "seed_oss",
    replace(
        _tagged_form("seed:tool_call", _SEED_TAGS),
        member=("<parameter={key}>", "</parameter>\n"),
        not_first="\n",
    ),
    tag_starts(_SEED_TAGS),
    signs=("<seed:tool_call>",),
)
