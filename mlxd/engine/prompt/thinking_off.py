"""Ways in which chat templates let thinking be turned off, and which of them a template has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxd.engine.prompt.chat_template import ChatMessage
from mlxd.messages import ReasoningOptions, Scalar

SWITCHES = ("enable_thinking", "thinking")
"""Arguments that turn thinking on and off."""

_WORDS = ("none", "no_think", "disabled", "off")
_COMMANDS = ("/no_think", "/nothink")
_QUESTION: ChatMessage = {"role": "user", "content": "qzusera"}

Render = Callable[..., str | None]


@dataclass(frozen=True)
class ThinkingOff:
    """What turns thinking off: an argument of the template, or a `command` in the system's text."""

    argument: str = ""
    value: Scalar = False
    command: str = ""

    def arguments(self) -> dict[str, Scalar]:
        """The template's arguments for it."""
        return {self.argument: self.value} if self.argument else {}


def turns_off(wishes: ReasoningOptions, *, graded: bool) -> bool:
    """Whether a request wants no thinking.

    `minimal` is the least there is: the lowest effort where a template is `graded`, else none.
    """
    effort = "none" if wishes.effort == "minimal" and not graded else wishes.effort
    return effort == "none" or wishes.enabled is False


def find_off(render: Render, source: str) -> ThinkingOff | None:
    """The first way that changes the prompt; words count only where the template names them."""
    words = [word for word in _WORDS if f"'{word}'" in source or f'"{word}"' in source]
    ways: Sequence[tuple[str, Scalar, Scalar]] = (
        *((switch, False, True) for switch in (*SWITCHES, "reasoning")),
        *(("reasoning_effort", word, "high") for word in words),
        *(("thinking_mode", word, "enabled") for word in words),
        ("thinking_budget", 0, 1024),
    )
    for name, off, on in ways:
        if _differ(render, {name: off}, {name: on}):
            return ThinkingOff(name, off)
    for command in _COMMANDS:
        if command in source and _commands(render, command):
            return ThinkingOff(command=command)
    return None


def _differ(render: Render, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    texts = [render([_QUESTION], arguments=arguments) for arguments in (one, other)]
    return None not in texts and texts[0] != texts[1]


def _commands(render: Render, command: str) -> bool:
    """Whether the template acts on a command in the system's text, and does not only repeat it."""
    texts = [
        render([{"role": "system", "content": text}, _QUESTION]) for text in (command, "qzsystem")
    ]
    return None not in texts and texts[0] != str(texts[1]).replace("qzsystem", command)
