"""The arguments of a call one by one, each with what follows it, as Lark text for llguidance."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlxd.engine.grammar.plain_values import (
    MAX_KEYS,
    NO_NULL,
    PlainValues,
    Shown,
    ToolShape,
    expression,
)
from mlxd.engine.notations.notation import Form
from mlxd.errors import InvalidField

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""White space that JSON may hold: at most one space, so that a model can't go on with it."""

Literally = Callable[[str], str]
"""A text as Lark: control tokens as such, the rest as strings."""


def described(tool: ToolShape) -> list[tuple[str, Any, bool]]:
    """A tool's arguments in the order of its schema, and whether each is required."""
    properties = tool.schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = tool.schema.get("required", ())
    if missing := [name for name in required if name not in properties]:
        reason = f"`{missing[0]}` of the tool `{tool.name}` is required and not described."
        raise InvalidField("tools", "unsupported", reason)
    return [(key, schema, key in required) for key, schema in properties.items()]


class MemberChain:
    """Writes the rules of one tool's arguments, in the order of its schema.

    `NAME_from{n}` is all that may come from the n-th argument on, where the ones before are closed.
    A plain text is one terminal with the tag that closes it and the next tags, as what stands in it
    may be all but these; `NAME_text{n}` is such a text and what comes from the n-th argument on.

    What its reader can tell and a grammar can't, is barred: an opening of the tool's own arguments
    right behind a closing tag, though both may be text of a file; and a call that is begun and not
    closed, which might go on.
    """

    def __init__(
        self, form: Form, literally: Literally, tool: ToolShape, name: str, *, parallel: bool
    ) -> None:
        self._form = form
        self._literally = literally
        self._tool = tool
        self._name = name
        self._parallel = parallel
        self._members = described(tool)
        self._closing = form.member[1]
        self._openings = [
            form.member[0].format(key=key, string=str(self._is_text(schema)).lower())
            for key, schema, _ in self._members
        ]
        self._closings = [self._closing.format(key=key) for key, _, _ in self._members]
        keys = (
            () if tool.schema.get("additionalProperties") else [key for key, _, _ in self._members]
        )
        barred = [expression(text) for text in form.forbidden]
        self._shown = Shown(form.marks, keys) if form.marks and len(keys) <= MAX_KEYS else None
        self._barred = barred
        self._first = expression(form.not_first)
        shown = self._shown.barred if self._shown else ()
        self._plain = PlainValues([*barred, *shown], self._first)
        self._rules: list[str] = []

    @property
    def hints(self) -> list[str]:
        """Texts that close a value and all that is open with it, or go on to what is required."""
        if self._shown is None:
            return []
        nexts = (
            opening
            for opening, (_, _, needed) in zip(self._openings, self._members, strict=True)
            if needed
        )
        return [self._closing + each for each in (*(text for text, _ in self._endings()), *nexts)]

    def rules(self) -> list[str]:
        """The rules, `NAME_from0` and what it needs."""
        name, last = self._name, len(self._members)
        self._rules.append(f"{name}_from{last}: {self._text(self._form.call[1].format())} more")
        generic = False
        for number, (key, schema, needed) in enumerate(self._members):
            skip = "" if needed else f" | {name}_from{number + 1}"
            opening = self._text(self._openings[number])
            self._rules.append(f"{name}_from{number}: {opening} {name}_value{number}{skip}")
            generic |= self._value(number, key, schema)
        if generic and self._shown:
            self._texts(self._shown)
        return self._rules

    def _value(self, number: int, key: str, schema: Any) -> bool:
        """The rule of one value and what follows it; whether it may be a text that shows calls."""
        name, rule, tool = self._name, f"{self._name}_value{number}", self._tool
        rooted = with_definitions(schema, tool.schema)
        following = f"{name}_from{number + 1}"
        bodies = self._plain.terminals(rooted, tool) if self._form.values == "plain" else None
        if bodies is None:
            plain = self._form.values == "plain"
            value = self._plain.without_strings(rooted, tool) if plain else rooted
            closing = self._text(self._closings[number])
            json_value = inline_json(value, strict=tool.strict)
            self._rules.append(f"{rule}: {json_value} {closing} {following}")
            return False
        free = self._plain.free
        if bodies == [free] and self._shown:
            self._rules.append(f"{rule}: {name}_text{number + 1}")
            return True
        if self._shown is None or all(body.startswith('"') for body in bodies):
            self._closed_text(number, rule, rooted)
            return False
        shows = bodies == [free + NO_NULL]
        other = f" | {name.upper()}_SHOWS shown {name}_text{number + 1}" if shows else ""
        self._rules.append(f"{rule}: {rule}_to{number + 1}{other}")
        self._rules += self._ways_on(rule, _any_of(bodies), number + 1)
        return shows

    def _closed_text(self, number: int, rule: str, schema: Any) -> None:
        """The rule of a text that shows no closing tag, as that tag alone ends it."""
        whole = self._closings[number]
        closed = [expression(whole.strip() or whole)] if whole else []
        texts = PlainValues([*closed, *self._barred], self._first)
        bodies = texts.terminals(schema, self._tool) or []
        terminal, closing = f"{rule.upper()}_TEXT", whole.rstrip()
        self._rules.append(f"{terminal}: {_any_of(bodies)} {json.dumps(closing)}")
        rest = self._text(whole[len(closing) :])
        self._rules.append(f"{rule}: {terminal} {rest} {self._name}_from{number + 1}")

    def _is_text(self, schema: Any) -> bool:
        """Whether an argument is written as it is and not as JSON."""
        rooted = with_definitions(schema, self._tool.schema)
        return PlainValues(()).terminals(rooted, self._tool) is not None

    def _texts(self, shown: Shown) -> None:
        """Any text, up to each of what may follow it; it may show calls."""
        name, shows = self._name, f"{self._name.upper()}_SHOWS"
        self._rules += [
            *shown.rules,
            f"{shows}: ({self._plain.free}{shown.no_call_end}) /{shown.opening}/",
            *self._ways_on(name, f"({self._plain.free})", 1, all_of_them=True),
        ]
        for number in range(1, len(self._members) + 1):
            more = f"{shows} shown {name}_text{number}"
            self._rules.append(f"{name}_text{number}: {name}_to{number} | {more}")

    def _ways_on(
        self, rule: str, body: str, first: int, *, all_of_them: bool = False
    ) -> Iterator[str]:
        """`RULE_to{n}`: a text and what comes from the n-th argument on."""
        last = len(self._members)
        for number in range(first, last):
            needed = self._members[number][2]
            tail, rest = self._split(self._closing + self._openings[number])
            terminal = f"{rule.upper()}_TO{number}"
            yield f"{terminal}: {body} {tail}"
            skip = "" if needed else f" | {rule}_to{number + 1}"
            yield f"{rule}_to{number}: {terminal} {rest} {self._name}_value{number}{skip}"
            if needed and not all_of_them:
                return
        ways = []
        for number, (text, then) in enumerate(self._endings()):
            tail, rest = self._split(self._closing + text)
            yield f"{rule.upper()}_END{number}: {body} {tail}"
            ways.append(f"{rule.upper()}_END{number} {rest} {then}")
        yield f"{rule}_to{last}: {' | '.join(ways)}"

    def _endings(self) -> list[tuple[str, str]]:
        """What may stand behind the last closing tag, and the rule of what follows that.

        Inside of a region the end of a call tells no end of a value without what comes next.
        """
        form, closing = self._form, self._form.call[1].format()
        marks = form.marks
        if marks is None or not marks.region_end or marks.region_end in closing:
            return [(closing, "more")]
        before_name = form.call[0].format(name="\0").partition("\0")[0]
        again = [(closing + form.between + before_name, "once")] if self._parallel else []
        return [(closing + form.region[1], ""), *again]

    def _split(self, text: str) -> tuple[str, str]:
        """A text as Lark up to its first control token, and the rest: no terminal holds one."""
        whole = self._literally(text)
        if not whole.startswith('"'):
            return _EMPTY, whole
        _, size = json.JSONDecoder().raw_decode(whole)
        return whole[:size], whole[size:].strip()

    def _text(self, text: str) -> str:
        return self._literally(text) if text else ""


_EMPTY = '""'


def _any_of(bodies: Sequence[str]) -> str:
    return f"({' | '.join(f'({body})' for body in bodies)})"


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
