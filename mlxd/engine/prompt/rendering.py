"""One conversation rendered by one template: the prompt's text and where it may be cut."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from mlxd.engine.interface import COMMON_TAGS, Markup
from mlxd.engine.prompt.chat_template import ChatTemplate, TemplateFault
from mlxd.engine.prompt.template_traits import TemplateTraits
from mlxd.engine.prompt.turn_layout import arrange, to_messages
from mlxd.engine.prompt.turns import ChatTurn

SHORT = 256
"""Characters of a prompt in which no place to cut is looked for."""
TAIL = 256
"""Characters at a prompt's end in which the beginning of the answer is looked for."""
OTHER_WORDS, END = "\ue000", "\ue001"
"""Characters nobody writes: another user's words, and the place where an answer goes on."""


@dataclass(frozen=True)
class Rendered:
    """A prompt as text. Other prompts are likely to go on differently at `marks`, rising."""

    text: str
    opens_reasoning: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class TemplateContext:
    """What stays the same for all renderings of one request.

    `command` is a text that steers the model from the system's turn.
    """

    template: ChatTemplate
    traits: TemplateTraits
    markup: Markup
    tools: Sequence[Mapping[str, Any]]
    arguments: Mapping[str, Any]
    command: str = ""

    def render(self, turns: Sequence[ChatTurn], *, checkpoints: bool) -> Rendered:
        """The whole prompt; an assistant turn at the end is continued. Raises `TemplateFault`."""
        turns = list(turns)
        # An empty answer at the end is nothing that could be gone on with; closed thinking is.
        while turns and turns[-1].role == "assistant" and turns[-1].empty and not turns[-1].thought:
            turns.pop()
        turns = turns or [ChatTurn("user")]
        last = turns[-1]
        if last.role == "assistant" and not last.calls:
            rendered = self._continued(turns[:-1] or [ChatTurn("user")], last)
        else:
            text = self.text(turns, open_answer=True)
            rendered = Rendered(text, self._opens_reasoning(text, turns))
        if checkpoints and len(rendered.text) >= SHORT:
            return replace(rendered, marks=self._marks(rendered.text, turns))
        return rendered

    def text(self, turns: Sequence[ChatTurn], *, open_answer: bool) -> str:
        """The turns as the template writes them, nothing else; raises `TemplateFault`."""
        native, traits = self.traits.tools, self.traits
        if native and self.tools:
            traits = replace(traits, no_user=traits.no_user and traits.tools_no_user)
        arranged = arrange(
            self._led(turns),
            traits,
            tools=() if native else self.tools,
            tool_format=self.markup.tool_format,
        )
        return self.template.render(
            to_messages(arranged, self.traits),
            tools=self.tools if native else None,
            open_answer=open_answer,
            arguments=self.arguments,
        )

    def _led(self, turns: Sequence[ChatTurn]) -> list[ChatTurn]:
        """The turns with what the system's turn must hold besides the caller's text."""
        lead = self.traits.tools_lead if self.traits.tools and self.tools else None
        first = turns[0] if turns and turns[0].role == "system" else None
        if first is not None and first.text:
            lead = None
        said = first.text if first is not None else ""
        added = "\n\n".join(filter(None, (said, lead, self.command)))
        if first is None and lead is None and not added:
            return list(turns)
        return [ChatTurn("system", added), *(turns if first is None else turns[1:])]

    def _continued(self, turns: Sequence[ChatTurn], last: ChatTurn) -> Rendered:
        """The prompt up to the end of `last`, whose answer the model goes on with."""
        thinking = not last.text and not last.thought
        if last.thought and not last.reasoning:
            # Templates leave empty thinking out, and open another one.
            return Rendered(self._appended(turns, last), thinking)
        marked = (
            replace(last, reasoning=last.reasoning + END)
            if thinking
            else replace(last, text=last.text + END)
        )
        with suppress(TemplateFault):
            text, found, _ = self.text([*turns, marked], open_answer=False).rpartition(END)
            if found:
                return Rendered(text, thinking)
        return Rendered(self._appended(turns, last), thinking)

    def _appended(self, turns: Sequence[ChatTurn], last: ChatTurn) -> str:
        """As `_continued`, for templates that drop or refuse what an answer begins with."""
        text = self.text(turns, open_answer=True)
        if not self.markup.reasoning and (last.text or not last.reasoning):
            return text + last.text
        opening, closing = (*self.markup.reasoning, COMMON_TAGS)[0]
        opened = self._opens_reasoning(text, turns)
        if last.reasoning or (last.thought and not opened):
            text += last.reasoning if opened else f"{opening}\n{last.reasoning}"
        if last.thought or (last.text and (opened or last.reasoning)):
            text += f"\n{closing}\n\n"
        return text + last.text

    def _opens_reasoning(self, text: str, turns: Sequence[ChatTurn]) -> bool:
        """Whether what the template writes behind the last turn leaves a reasoning tag open."""
        tail = text[-TAIL:]
        if not any(opening in tail for opening, _ in self.markup.reasoning):
            return False
        with suppress(TemplateFault):
            tail = text[shared(text, self.text(turns, open_answer=False)) :][-TAIL:]
        return leaves_open(tail, self.markup)

    def _marks(self, text: str, turns: Sequence[ChatTurn]) -> tuple[int, ...]:
        """The ends of the system's part, of the last user turn, and of the last turn."""
        system = len(list(takewhile(lambda turn: turn.role == "system", turns)))
        users = [number for number, turn in enumerate(turns) if turn.role == "user"]
        shorter = [[*turns[:system], ChatTurn("user", OTHER_WORDS)]]
        shorter += [list(turns[: users[-1] + 1])] if users else []
        shorter += [list(turns[:-1] if turns[-1].role == "assistant" else turns)]
        marks = set()
        for beginning in shorter:
            with suppress(TemplateFault):
                marks.add(shared(text, self.text(beginning, open_answer=False)))
        return tuple(sorted(marks))


def leaves_open(tail: str, markup: Markup) -> bool:
    """Whether a text that the template wrote ends inside of a reasoning tag."""
    return any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in markup.reasoning)


def shared(one: str, other: str) -> int:
    """Characters that two texts have in common at their beginning."""
    if one.startswith(other):
        return len(other)
    return len(os.path.commonprefix([one, other]))
