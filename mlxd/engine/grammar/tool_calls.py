"""The grammar of tool calls in a model's own notation, as Lark text for llguidance.

A notation's form says how a call is written; what the grammar allows, its reader takes as a call
of an offered tool whose arguments satisfy the tool's schema.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from mlxd.engine.grammar.plain_values import PlainValues, ToolShape
from mlxd.engine.notations.notation import Form
from mlxd.errors import InvalidField

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""White space that JSON may hold: at most one space, so that a model can't go on with it."""

Literally = Callable[[str], str]
"""A text as Lark: control tokens as such, the rest as strings."""


class ToolGrammar:
    """Writes the rules for calls of some tools."""

    def __init__(self, form: Form, literally: Literally, *, parallel: bool) -> None:
        self._form = form
        self._literally = literally
        self._parallel = parallel and not form.single
        self._rules: list[str] = []

    def beginnings(self, tools: Sequence[ToolShape]) -> list[str]:
        """The text before the arguments of each tool's call."""
        region, call = self._form.region[0], self._form.call[0]
        return [region + call.format(name=tool.name) for tool in tools]

    @property
    def ends(self) -> list[str]:
        """The texts that close calls and arguments."""
        form = self._form
        texts = (form.member[1], form.region[1], form.call[1].format())
        return [text for text in texts if len(text) > 2 and "{" not in text]

    def rules(self, tools: Sequence[ToolShape], *, marked: bool) -> str:
        """Lark rules; `calls` is the one to begin with, without its marker if `marked`."""
        form = self._form
        names = [self._call(number, tool) for number, tool in enumerate(tools)]
        region = form.region[0]
        before = "" if region else self._form.marker
        once = " | ".join(names)
        after = self._text(form.region[1])
        head = self._text(region) if region else self._text(self._form.marker)
        if marked:
            head = self._text(region.removeprefix(self._form.marker))
        rest = f"({self._text(form.between + before)} ({once}))*" if self._parallel else ""
        lines = [f"calls: {head} ({once}) {rest} {after}"]
        return "\n".join([*lines, *self._rules])

    def _call(self, number: int, tool: ToolShape) -> str:
        form = self._form
        opening = form.call[0].format(name=tool.name)
        if not form.region[0]:
            opening = opening.removeprefix(self._form.marker)
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
        """Members with commas between those that are written.

        Two rules for each member, `first` while none was written and `rest` behind one: so the
        grammar grows with the members, not with the ways to leave some out.
        """
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
        opening, behind = (text.format(key=key, string="{string}") for text in self._form.member)
        rooted = with_definitions(schema, tool.schema)
        if self._form.values == "plain":
            values = PlainValues(behind, self._form.forbidden, self._form.line)
            terminal = values.terminal(rooted, tool)
            if terminal is not None:
                name = f"{rule.upper()}_VALUE"
                self._rules.append(f"{name}: {terminal}")
                opening = self._text(opening.replace("{string}", "true"))
                return f"{opening} {name} {self._text(behind[len(behind.rstrip()) :])}"
            rooted = values.without_strings(rooted, tool)
        opening = self._text(opening.replace("{string}", "false"))
        return f"{opening} {inline_json(rooted, strict=tool.strict)} {self._text(behind)}"

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
