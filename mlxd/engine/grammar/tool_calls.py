"""The grammar of tool calls in a model's own notation, as Lark text for llguidance.

A notation's form says how a call is written; what the grammar allows, its reader takes as a call
of an offered tool whose arguments satisfy the tool's schema.
"""

from collections.abc import Sequence

from mlxd.engine.grammar.members import (
    Literally,
    MemberChain,
    described,
    inline_json,
    with_definitions,
)
from mlxd.engine.grammar.plain_values import ToolShape
from mlxd.engine.notations.notation import Form

_EMPTY = '""'


class ToolGrammar:
    """Writes the rules for calls of some tools.

    A call's rule goes on with what follows it, up to the end of all calls: where a value is plain
    text, what ends it can only be told together with what comes next.
    """

    def __init__(self, form: Form, literally: Literally, *, parallel: bool) -> None:
        self._form = form
        self._literally = literally
        self._parallel = parallel and not form.single
        self._rules: list[str] = []
        self._before_name = form.call[0].format(name="\0").partition("\0")[0]
        self._hints: list[str] = []
        self._chains: list[MemberChain] = []

    def beginnings(self, tools: Sequence[ToolShape]) -> list[str]:
        """The text before the arguments of each tool's call."""
        region, call = self._form.region[0], self._form.call[0]
        return [region + call.format(name=tool.name) for tool in tools]

    @property
    def ends(self) -> list[str]:
        """The texts that close calls and arguments, known when the rules are."""
        form = self._form
        texts = (*self._hints, form.member[1], form.region[1], form.call[1].format())
        return [text for text in dict.fromkeys(texts) if len(text) > 2 and "{" not in text]

    def rules(self, tools: Sequence[ToolShape], *, marked: bool) -> str:
        """Lark rules; `calls` is the one to begin with, without its marker if `marked`."""
        form = self._form
        names = [self._call(number, tool) for number, tool in enumerate(tools)]
        head = form.region[0] + self._before_name
        head = head.removeprefix(form.marker) if marked else head
        more = [self._text(form.region[1]) or _EMPTY]
        if self._parallel:
            more.append(f"{self._text(form.between + self._before_name)} once")
        lines = [f"calls: {self._text(head)} once", f"once: {' | '.join(names)}"]
        lines += [f"more: {' | '.join(more)}", *self._going_on()]
        return "\n".join([*lines, *dict.fromkeys(self._rules)])

    def _going_on(self) -> list[str]:
        """What follows a call that holds an opening that is never closed."""
        marks = self._form.marks
        if marks is None:
            return []
        ways = [way for chain in self._chains for way in chain.following]
        if not ways:
            return [f"more_on: {_EMPTY}"]
        apart = marks.region != "" and marks.region in self._form.call[0]
        again = f"{self._chains[0].region} once_on" if apart else "once_on"
        return [f"more_on: {_EMPTY} | {again}", f"once_on: {' | '.join(ways)}"]

    def _call(self, number: int, tool: ToolShape) -> str:
        form, rule = self._form, f"call{number}"
        opening = form.call[0].format(name=tool.name).removeprefix(self._before_name)
        closing = form.call[1].format()
        arguments = f"args{number}"
        if form.json:
            self._rules.append(f"{arguments}: {inline_json(tool.schema, strict=tool.strict)}")
        elif form.comma:
            self._listed(arguments, tool)
        else:
            chain = MemberChain(form, self._literally, tool, arguments, parallel=self._parallel)
            self._chains.append(chain)
            self._rules += [f"{rule}: {self._text(opening)} {arguments}_from0", *chain.rules()]
            self._hints += chain.hints
            return rule
        self._rules.append(f"{rule}: {self._text(opening)} {arguments} {self._text(closing)} more")
        return rule

    def _listed(self, rule: str, tool: ToolShape) -> None:
        """Members with commas between those that are written.

        Two rules for each member, `first` while none was written and `rest` behind one: so the
        grammar grows with the members, not with the ways to leave some out.
        """
        comma = self._text(self._form.comma)
        members = described(tool)
        self._rules += [f"{rule}: {rule}_first0", f"{rule}_first{len(members)}: {_EMPTY}"]
        self._rules.append(f"{rule}_rest{len(members)}: {_EMPTY}")
        for number, (key, schema, needed) in enumerate(members):
            member, following = f"{rule}_{number}", f"{rule}_rest{number + 1}"
            value = inline_json(with_definitions(schema, tool.schema), strict=tool.strict)
            opening = self._text(self._form.member[0].format(key=key))
            self._rules.append(f"{member}: {opening} {value} {self._text(self._form.member[1])}")
            skip = "" if needed else f" | {rule}_first{number + 1}"
            self._rules.append(f"{rule}_first{number}: {member} {following}{skip}")
            skip = "" if needed else f" | {following}"
            self._rules.append(f"{rule}_rest{number}: {comma} {member} {following}{skip}")

    def _text(self, text: str) -> str:
        return self._literally(text) if text else ""
