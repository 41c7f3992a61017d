"""Qwen's calls, which many families write too: JSON or nested tags in a region `<tool_call>`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.any_calls import QWEN_TAGS, TOOL_CALL, any_calls
from mlxd.engine.notations.reading.tags import tagged_call


def _spell(calls: Sequence[tuple[str, Any]]) -> str:
    bodies = ({"name": name, "arguments": arguments} for name, arguments in calls)
    texts = (json.dumps(body, ensure_ascii=False) for body in bodies)
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


JSON_TOOLS = Notation(
    "json_tools",
    Form(
        ('<tool_call>\n{{"name": "{name}", "arguments": ', "}}\n</tool_call>"),
        between="\n",
    ),
    # Qwen2.5-Coder closes its calls in the tags that its prompt puts around the tools.
    {**TOOL_CALL, "<tools>": partial(any_calls, end="</tools>")},
    spell=_spell,
    signs=("<tool_call>",),
)
HERMES = replace(JSON_TOOLS, name="hermes")
QWEN3_CODER = Notation(
    "qwen3_coder",
    Form(
        ("<tool_call>\n<function={name}>\n", "</function>\n</tool_call>"),
        between="\n",
        json=False,
        member=("<parameter={key}>\n", "\n</parameter>\n"),
        line="\n",
        marks=QWEN_TAGS.marks,
    ),
    {**TOOL_CALL, QWEN_TAGS.call: partial(tagged_call, tags=QWEN_TAGS)},
)
