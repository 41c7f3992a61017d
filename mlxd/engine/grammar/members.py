"""The arguments of a call one by one, each with what follows it, as Lark text for llguidance."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from mlxd.engine.grammar.plain_values import (
    SPACES,
    PlainValues,
    ToolShape,
    expression,
    scalar,
)
from mlxd.engine.grammar.value_texts import ValueTags, ValueTexts
from mlxd.engine.notations.notation import Form
from mlxd.engine.notations.reading.plain_values import ValueMarks
from mlxd.errors import InvalidField

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""White space that JSON may hold: at most one space, so that a model can't go on with it."""

ANY_TEXT: list[str] = []
"""Stands for the terminals of an argument that is any text."""
MAX_WAYS = 64
"""Arguments that may follow a text with a pattern or a length that holds closing tags: each is an
expression more."""

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

    `NAME_from{n}` is all that may come from the n-th argument on, where the ones before are closed,
    and `NAME_to{n}` the same behind the closing tag of a text. `NAME_on{n}` stands behind a text
    with an opening that is never closed: no value behind it shows a closing tag. Everything is a
    lexeme there, up to the next tag, as the same text could still go on.
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
        self._barred = [expression(text) for text in form.forbidden]
        self._first = expression(form.not_first)
        self._closing = form.member[1]
        self._bodies = [self._texts_of(schema) for _, schema, _ in self._members]
        self._openings = [
            form.member[0].format(key=key, string=str(bodies is not None).lower())
            for (key, _, _), bodies in zip(self._members, self._bodies, strict=True)
        ]
        self._last_needed = max(
            (number for number, (_, _, needed) in enumerate(self._members) if needed), default=-1
        )
        self._rules: list[str] = []
        self.following: list[str] = []
        """What its call is behind a text with an opening that is never closed, with the rules."""
        self._tags = self._texts = None
        if form.marks is not None:
            keys = [key for key, _, _ in self._members]
            open_keys = tool.schema.get("additionalProperties")
            self._tags = ValueTags(form.marks, () if open_keys else keys)
            # An argument's opening tag ends before what a value begins with.
            after_key = form.member[0].partition("{key}")[2]
            self._begins = after_key.partition(form.marks.member[1])[2]
            first = f"{SPACES}{self._barred[0]}" if self._barred else self._first
            self._texts = ValueTexts(self._tags, name, expression(self._begins), first)

    @property
    def hints(self) -> list[str]:
        """Texts that close a value and all that is open with it, or go on to what is required."""
        if self._tags is None:
            return []
        nexts = (
            opening
            for opening, (_, _, needed) in zip(self._openings, self._members, strict=True)
            if needed
        )
        return [self._closing + each for each in (*(text for text, _ in self._endings()), *nexts)]

    @property
    def region(self) -> str:
        """The rule of the beginning of a region."""
        assert self._texts is not None, "texts that may hold closing tags"
        return self._texts.region

    def rules(self) -> list[str]:
        """The rules, `NAME_from0` and what it needs."""
        name, last = self._name, len(self._members)
        is_any = self._texts is not None and ANY_TEXT in self._bodies
        self._rules.append(f"{name}_from{last}: {self._text(self._form.call[1].format())} more")
        for number, (_, schema, needed) in enumerate(self._members):
            skip = "" if needed else f" | {name}_from{number + 1}"
            opening = self._text(self._opening(number))
            self._rules.append(f"{name}_from{number}: {opening} {name}_value{number}{skip}")
            if self._texts is not None and self._bodies[number] is ANY_TEXT:
                self._any_text(number, self._texts)
            else:
                self._value(number, with_definitions(schema, self._tool.schema))
        if self._texts is not None and (is_any or self._parallel):
            self._rules += [*self._behind_text(self._texts)] if is_any else []
            self._rules += [f"{rule}: {body}" for rule, body in self._behind_opening.items()]
            self.following = self._following() if self._parallel else []
            self._rules += self._texts.rules()
        return self._rules

    def _following(self) -> list[str]:
        """What a call is behind another one's text with such an opening."""
        form, texts, ways = self._form, self._texts, list[str]()
        assert texts is not None, "texts that may hold closing tags"
        text = form.call[0].format(name=self._tool.name)
        _, region, inside = text.partition(self._marks.region or "\0")
        if not region:
            inside = form.call[1].partition(self._marks.call_end)[2] + form.between + text
        on = self._behind_opening
        for number, (_, _, needed) in enumerate(self._members[:MAX_WAYS]):
            if values := self._open_values(number, "then", on):
                head = inside + self._until_value(number)
                opening = texts.opening(f"first{number}", expression(head))
                ways.append(f"{opening} ({' | '.join(values)})")
            if needed:
                return ways
        whole = inside + form.call[1].format().partition(self._marks.call_end)[0]
        bare = texts.opening("bare", expression(whole + self._marks.call_end))
        return [*ways, f"{bare} {self._ended(texts, '')}"]

    def _texts_of(self, schema: Any) -> list[str] | None:
        """The terminals of an argument's texts, `ANY_TEXT` for all; None where it is JSON."""
        if self._form.values != "plain":
            return None
        plain = PlainValues(self._barred, self._first)
        bodies = plain.terminals(with_definitions(schema, self._tool.schema), self._tool)
        return ANY_TEXT if bodies is not None and plain.free in bodies else bodies

    def _opening(self, number: int) -> str:
        """An opening tag; what any text begins with belongs to the text."""
        opening = self._openings[number]
        is_any = self._texts is not None and self._bodies[number] is ANY_TEXT
        return opening.removesuffix(self._begins) if is_any else opening

    def _value(self, number: int, schema: Any) -> None:
        """The rule of one value that is not any text, and of what follows it."""
        rule, tool, bodies = f"{self._name}_value{number}", self._tool, self._bodies[number]
        if bodies is None:
            if self._form.values == "plain":
                schema = PlainValues(()).without_strings(schema, tool)
            closing = self._text(self._closing.format(key=self._members[number][0]))
            value = f"{inline_json(schema, strict=tool.strict)} {closing}"
            self._rules.append(f"{rule}: {value} {self._name}_from{number + 1}")
            return
        many = len(self._members) - number > MAX_WAYS
        if self._tags is None or many or all(body.startswith('"') for body in bodies):
            self._closed_text(number, rule, schema)
        else:
            self._held_text(number, rule, schema)

    def _any_text(self, number: int, texts: ValueTexts) -> None:
        """The rule of any text and what follows it."""
        name, ways = self._name, [f"{texts.closed} {self._name}_to{number + 1}"]
        going_on = self._behind_opening
        if f"{name}_on{number + 1}" in going_on:
            ways.append(f"{texts.open_ended} {name}_on{number + 1}")
        if number >= self._last_needed:
            ways.append(f"{texts.last} {texts.ends}")
        elif f"{name}_needed" in going_on and not any(
            needed for _, _, needed in self._members[number + 1 : self._last_needed]
        ):
            ways.append(f"{texts.open_ended} {name}_needed")
        self._rules.append(f"{name}_value{number}: {' | '.join(ways)}")

    def _behind_text(self, texts: ValueTexts) -> Iterator[str]:
        """What may come behind the closing tag of any text."""
        name, last, form, marks = self._name, len(self._members), self._form, self._marks
        behind = self._closing.partition(marks.closing)[2]
        for number in range(1, last):
            opening = self._text(behind + self._opening(number))
            skip = "" if self._members[number][2] else f" | {name}_to{number + 1}"
            yield f"{name}_to{number}: {opening} {name}_value{number}{skip}"
        ways = [f"{texts.ends} more"]
        if marks.region_end and marks.region_end not in form.call[1]:
            # The region's end, or the next call, is what ends this one.
            ways = [texts.ends]
            again = form.call[1].partition(marks.call_end)[2] + form.between + self._before_name
            ways += [f"{texts.call_end} {self._text(again)} once"] if self._parallel else []
        yield f"{name}_to{last}: {' | '.join(ways)}"

    def _ended(self, texts: ValueTexts, call_end: str) -> str:
        """What may come behind a call behind an opening that is never closed."""
        region = texts.region_end
        if self._marks.region_end and self._marks.region_end not in self._form.call[1]:
            again = f" | {call_end} once_on" if self._parallel else ""
            return f"({call_end} {region}{again})"
        return f"{call_end} {region} more_on"

    def _until_value(self, number: int) -> str:
        opening = self._openings[number]
        return opening.removesuffix(self._begins) if self._begins else opening

    @cached_property
    def _behind_opening(self) -> dict[str, str]:
        """The rules behind a text with an opening that is never closed, by their names.

        An argument that can't be a lexeme is left out, and with it what would need it.
        """
        texts, name, last = self._texts, self._name, len(self._members)
        assert texts is not None, "a text that may hold closing tags"
        ended = self._ended(texts, texts.call_end)
        rules = {f"{name}_{kind}{last}": ended for kind in ("on", "then")}
        behind = self._closing.partition(self._marks.closing)[2]
        openings = [
            texts.opening(f"own{number}", expression(behind + self._until_value(number)))
            for number in range(last)
        ]
        for number, kind in product(range(last - 1, 0, -1), ("on", "then")):
            values = self._open_values(number, kind, rules)
            ways = [f"{openings[number]} ({' | '.join(values)})"] if values else []
            skipped = f"{name}_{kind}{number + 1}"
            ways += [skipped] if skipped in rules and not self._members[number][2] else []
            if ways:
                rules[f"{name}_{kind}{number}"] = " | ".join(ways)
        if self._last_needed > 0 and self._bodies[self._last_needed] is ANY_TEXT:
            ways = [f"{each} {name}_on{last}" for each in (texts.closed, texts.open_ended)]
            ways.append(f"{texts.last} {texts.ends}")
            rules[f"{name}_needed"] = f"{openings[self._last_needed]} ({' | '.join(ways)})"
        return rules

    def _open_values(self, number: int, kind: str, known: Collection[str]) -> list[str]:
        """A value behind such an opening with what follows, as far as that is known.

        Those of `then` are in calls behind the one that has it.
        """
        assert self._texts is not None, "a text that may hold closing tags"
        ways = [(self._word(number, self._texts), kind)]
        if kind == "then" and self._bodies[number] is ANY_TEXT:
            ways = [(self._texts.calm, kind), (self._texts.plain, "on")]
        following = [(value, f"{self._name}_{kind}{number + 1}") for value, kind in ways if value]
        return [f"{value} {rule}" for value, rule in following if rule in known]

    def _word(self, number: int, texts: ValueTexts) -> str:
        """The rule of a value that shows no closing tag, with its own; empty if there is none."""
        assert self._tags is not None, "a text that may hold closing tags"
        bodies, tags = self._bodies[number], self._tags
        rooted = with_definitions(self._members[number][1], self._tool.schema)
        if bodies is ANY_TEXT:
            return texts.plain
        if bodies is not None:
            plain = PlainValues([*self._barred, tags.close, tags.call, tags.own], self._first)
            return texts.word(number, _any_of(plain.terminals(rooted, self._tool) or []))
        value = scalar(rooted)
        return texts.word(number, f"/{value}/") if value else ""

    def _held_text(self, number: int, rule: str, schema: Any) -> None:
        """The rule of a text that an expression holds: one terminal with the tags that end it."""
        assert self._tags is not None, "a text that may hold closing tags"
        tags, name = self._tags, f"{rule}_to{number + 1}"
        inside = [*self._barred, tags.ending, tags.call]
        if self._parallel or number + 1 < len(self._members):
            # Behind an opening that is never closed the reader could take what follows for text.
            inside.append(tags.own)
        bodies = PlainValues(inside, self._first).terminals(schema, self._tool) or []
        self._rules.append(f"{rule}: {name}")
        self._rules += self._ways_on(rule, _any_of(bodies), number + 1)

    def _closed_text(self, number: int, rule: str, schema: Any) -> None:
        """The rule of a text that shows no closing tag, as that tag alone ends it."""
        whole = self._closing.format(key=self._members[number][0])
        inside = [expression(whole.strip() or whole)] if whole else []
        inside += [self._tags.call, self._tags.own] if self._tags is not None else []
        texts = PlainValues([*inside, *self._barred], self._first)
        bodies = texts.terminals(schema, self._tool) or []
        terminal, closing = f"{rule.upper()}_TEXT", whole.rstrip()
        tail, rest = self._split(closing)
        self._rules.append(f"{terminal}: {_any_of(bodies)} {tail}")
        rest = f"{rest} {self._text(whole[len(closing) :])}"
        self._rules.append(f"{rule}: {terminal} {rest} {self._name}_from{number + 1}")

    @property
    def _marks(self) -> ValueMarks:
        assert self._form.marks is not None, "a form whose values may hold closing tags"
        return self._form.marks

    @property
    def _before_name(self) -> str:
        return self._form.call[0].format(name="\0").partition("\0")[0]

    def _ways_on(self, rule: str, body: str, first: int) -> Iterator[str]:
        """`RULE_to{n}`: a text and what comes from the n-th argument on."""
        last = len(self._members)
        for number in range(first, last):
            needed = self._members[number][2]
            tail, rest = self._split(self._closing + self._opening(number))
            terminal = f"{rule.upper()}_TO{number}"
            yield f"{terminal}: {body} {tail}"
            skip = "" if needed else f" | {rule}_to{number + 1}"
            yield f"{rule}_to{number}: {terminal} {rest} {self._name}_value{number}{skip}"
            if needed:
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
        again = [(closing + form.between + self._before_name, "once")] if self._parallel else []
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
