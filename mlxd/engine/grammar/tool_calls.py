"""The grammar of tool calls in a model's own notation, as Lark text for llguidance.

For every notation that `toolcalls` reads there is one form here that its reader takes: a call of
an offered tool whose arguments satisfy the tool's schema.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlxd.engine.grammar.plain_values import PlainValues
from mlxd.errors import InvalidField

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""White space that JSON may hold: at most one space, so that a model can't go on with it."""

_TAG = re.compile(r"<[^<>]*>|\[[A-Z_]+\]")

Literally = Callable[[str], str]
"""A text as Lark: control tokens as such, the rest as strings."""


@dataclass(frozen=True)
class ToolShape:
    """An offered tool: its schema, parsed, with what can't be enforced taken out."""

    name: str
    schema: dict[str, Any]
    strict: bool


@dataclass(frozen=True)
class Form:
    """How one notation writes calls: `{name}` stands for the tool's name.

    `region` stands around all calls, `call` around one, `between` between two. With `json` the
    arguments are one JSON object; else each argument is written as `member` says.
    """

    call: tuple[str, str]
    region: tuple[str, str] = ("", "")
    between: str = ""
    json: bool = True
    member: tuple[str, str] = ("", "")
    comma: str = ""
    values: Literal["plain", "json"] = "plain"
    line: str = ""
    forbidden: tuple[str, ...] = ()
    single: bool = False


_TOOL_CALL = ("<tool_call>\n", "\n</tool_call>")
_JSON_TOOLS = Form(
    (_TOOL_CALL[0] + '{{"name": "{name}", "arguments": ', "}}" + _TOOL_CALL[1]), between="\n"
)
_BARE = Form(('{{"name": "{name}", "arguments": ', "}}"), single=True)


def _pairs(prefix: str, call: str) -> Form:
    return Form(
        (f"<{call}>{{name}}\n", f"</{call}>"),
        between="\n",
        json=False,
        member=(
            f"<{prefix}arg_key>{{key}}</{prefix}arg_key>\n<{prefix}arg_value>",
            f"</{prefix}arg_value>\n",
        ),
    )


def _gemma(start: str, end: str) -> Form:
    return Form(
        (start + "call:{name}{{", "}}" + end),
        json=False,
        member=("{key}:", ""),
        comma=",",
        values="json",
    )


FORMS: dict[str, Form] = {
    "json_tools": _JSON_TOOLS,
    "hermes": _JSON_TOOLS,
    "qwen3_coder": Form(
        ("<tool_call>\n<function={name}>\n", "</function>\n</tool_call>"),
        between="\n",
        json=False,
        member=("<parameter={key}>\n", "\n</parameter>\n"),
        line="\n",
        forbidden=("</function>",),
    ),
    "minimax_m2": Form(
        ('<invoke name="{name}">\n', "</invoke>\n"),
        region=("<minimax:tool_call>\n", "</minimax:tool_call>"),
        json=False,
        member=('<parameter name="{key}">', "</parameter>\n"),
        forbidden=("</invoke>",),
    ),
    "minicpm5": Form(
        ('<function name="{name}">', "</function>"),
        between="\n",
        json=False,
        member=('<param name="{key}">', "</param>"),
        forbidden=("<![CDATA[",),
    ),
    "muse_spark": Form(
        ('<atem:invoke name="{name}">\n', "</atem:invoke>\n"),
        region=("<atem:function_calls>\n", "</atem:function_calls>"),
        json=False,
        member=('<atem:parameter name="{key}">', "</atem:parameter>\n"),
        forbidden=("</atem:invoke>",),
    ),
    "glm47": _pairs("", "tool_call"),
    "laguna": _pairs("", "tool_call"),
    "longcat": _pairs("longcat_", "longcat_tool_call"),
    "kimi_k2": Form(
        (
            "<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
        ),
        region=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ),
    "kimi_k3": Form(
        (
            '<|open|>call tool="{name}"<|sep|><|open|>json<|sep|>',
            "<|close|>json<|sep|><|close|>call<|sep|>",
        ),
        region=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
    ),
    "deepseek": Form(
        (
            "<\uff5ctool\u2581call\u2581begin\uff5c>{name}<\uff5ctool\u2581sep\uff5c>",
            "<\uff5ctool\u2581call\u2581end\uff5c>",
        ),
        region=(
            "<\uff5ctool\u2581calls\u2581begin\uff5c>",
            "<\uff5ctool\u2581calls\u2581end\uff5c>",
        ),
    ),
    "mistral": Form(
        ('{{"name": "{name}", "arguments": ', "}}"), region=("[TOOL_CALLS][", "]"), between=", "
    ),
    "mistral_named": Form(("[TOOL_CALLS]{name}[ARGS]", "")),
    "pythonic": Form(
        ("{name}(", ")"),
        region=("<|tool_call_start|>[", "]<|tool_call_end|>"),
        between=", ",
        json=False,
        member=("{key}=", ""),
        comma=", ",
        values="json",
    ),
    "gemma4": _gemma("<|tool_call>", "<tool_call|>"),
    "function_gemma": _gemma("<start_function_call>", "<end_function_call>"),
    "harmony": Form(
        (
            "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>",
            "",
        ),
        single=True,
    ),
    "llama3_json": Form(('{{"name": "{name}", "parameters": ', "}}"), single=True),
    "bare_json": _BARE,
}


def form_of(tool_format: str | None, vocabulary: Callable[[str], bool]) -> Form:
    """The form for a notation; `vocabulary` tells whether a text is one token of the model."""
    if tool_format == "mistral" and vocabulary("[ARGS]"):
        return FORMS["mistral_named"]
    return FORMS.get(tool_format or "", _BARE)


class ToolGrammar:
    """Writes the rules for calls of some tools."""

    def __init__(self, form: Form, literally: Literally, *, parallel: bool) -> None:
        self._form = form
        self._literally = literally
        self._parallel = parallel and not form.single
        self._rules: list[str] = []
        self._values = PlainValues(form.member[1], form.forbidden, form.line)

    @property
    def marker(self) -> str:
        """The text that begins calls up to the end of its first tag; empty without markup."""
        text = self._form.region[0] or self._form.call[0].partition("{")[0]
        first = _TAG.match(text)
        return first[0] if first else text

    def beginnings(self, tools: Sequence[ToolShape]) -> list[str]:
        """The text before the arguments of each tool's call."""
        region, call = self._form.region[0], self._form.call[0]
        return [region + call.format(name=tool.name) for tool in tools]

    @property
    def ends(self) -> list[str]:
        """The texts that close calls and arguments."""
        form = self._form
        texts = (form.member[1], form.region[1], form.call[1].format())
        return [text for text in texts if len(text) > 2]

    def rules(self, tools: Sequence[ToolShape], *, marked: bool) -> str:
        """Lark rules; `calls` is the one to begin with, without its marker if `marked`."""
        form = self._form
        names = [self._call(number, tool) for number, tool in enumerate(tools)]
        region = form.region[0]
        before = "" if region else self.marker
        once = " | ".join(names)
        after = self._text(form.region[1])
        head = self._text(region) if region else self._text(self.marker)
        if marked:
            head = self._text(region.removeprefix(self.marker))
        rest = f"({self._text(form.between + before)} ({once}))*" if self._parallel else ""
        lines = [f"calls: {head} ({once}) {rest} {after}"]
        return "\n".join([*lines, *self._rules])

    def _call(self, number: int, tool: ToolShape) -> str:
        form = self._form
        opening = form.call[0].format(name=tool.name)
        if not form.region[0]:
            opening = opening.removeprefix(self.marker)
        rule = f"call{number}"
        arguments = f"arguments{number}"
        if form.json:
            self._rules.append(f"{arguments}: {inline_json(tool.schema, strict=tool.strict)}")
        else:
            self._members(arguments, tool)
        closing = form.call[1].format()
        self._rules.append(f"{rule}: {self._text(opening)} {arguments} {self._text(closing)}")
        return rule

    def _members(self, rule: str, tool: ToolShape) -> None:
        """The arguments one by one, in the order of the schema, the optional ones or not."""
        properties = tool.schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = tool.schema.get("required", ())
        if missing := [name for name in required if name not in properties]:
            reason = f"`{missing[0]}` of the tool `{tool.name}` is required and not described."
            raise InvalidField("tools", "unsupported", reason)
        members = []
        for number, (key, schema) in enumerate(properties.items()):
            member = f"{rule}_{number}"
            self._rules.append(f"{member}: {self._member(key, schema, member, tool)}")
            members.append((member, key in required))
        if self._form.comma:
            self._listed(rule, members)
        else:
            parts = [member if needed else f"{member}?" for member, needed in members]
            self._rules.append(f"{rule}: {' '.join(parts) or json.dumps('')}")

    def _listed(self, rule: str, members: Sequence[tuple[str, bool]]) -> None:
        """Members with commas between those that are written."""
        comma = self._text(self._form.comma)
        empty = json.dumps("")
        self._rules += [f"{rule}: {rule}_first0", f"{rule}_first{len(members)}: {empty}"]
        self._rules.append(f"{rule}_rest{len(members)}: {empty}")
        for number, (member, needed) in enumerate(members):
            following = f"{rule}_rest{number + 1}"
            skip = "" if needed else f" | {rule}_first{number + 1}"
            self._rules.append(f"{rule}_first{number}: {member} {following}{skip}")
            skip = "" if needed else f" | {following}"
            self._rules.append(f"{rule}_rest{number}: {comma} {member} {following}{skip}")

    def _member(self, key: str, schema: Any, rule: str, tool: ToolShape) -> str:
        opening = self._text(self._form.member[0].format(key=key))
        rooted = with_definitions(schema, tool.schema)
        closing = self._text(self._form.member[1])
        if self._form.values == "plain":
            terminal = self._values.terminal(rooted, tool)
            if terminal is not None:
                name = f"{rule.upper()}_VALUE"
                self._rules.append(f"{name}: {terminal}")
                behind = self._form.member[1]
                return f"{opening} {name} {self._text(behind[len(behind.rstrip()) :])}"
            rooted = self._values.without_strings(rooted, tool)
        return f"{opening} {inline_json(rooted, strict=tool.strict)} {closing}"

    def _text(self, text: str) -> str:
        return self._literally(text) if text else ""


def inline_json(schema: Any, *, strict: bool) -> str:
    """JSON of `schema` as a part of a Lark rule; not `strict` leaves out what it can't enforce."""
    if not isinstance(schema, dict):
        schema = {} if schema is not False else {"not": {}}
    options = {**JSON_STYLE, "lenient": not strict, "coerce_one_of": not strict}
    return "%json " + json.dumps({**schema, "x-guidance": options})


def with_definitions(schema: Any, root: dict[str, Any]) -> Any:
    """A part of a schema with the definitions that it may refer to."""
    if not isinstance(schema, dict):
        return schema
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
    return {**shared, **schema}
