"""What an agent's program sends: instructions and tools, and a conversation that grows by calls.

Each request has all messages of the ones before it, as Claude Code and Codex send them. What came
as the answer is sent back as it came: a call with the result of its tool, a text with the user's
next message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

RULES = 130
"""Sentences of about 20 tokens each: with the tools about 4,000 tokens."""
RULE = "Rule {number} of {project}: keep changes of part {number} small and say why they are made."
TOOLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "read_file": ("Read a part of a file of the project", ("path", "first_line")),
    "write_file": ("Replace a file of the project with new text", ("path", "text")),
    "list_folder": ("List what is in a folder of the project", ("path",)),
    "search": ("Find the lines of the project that match an expression", ("expression", "path")),
    "run": ("Run a command in the project's folder and get its output", ("command",)),
    "fetch": ("Get the text of a page that documents a library", ("address",)),
    "plan": ("Write down what is still to do, one step a line", ("steps",)),
    "ask": ("Ask the user where the task leaves a choice open", ("question",)),
}
CALLED = "read_file"
"""The tool that a forced call is of."""
LINE = "{line:4}  value_{line} = compute(value_{before}, step={turn})  # part {number} of it\n"
RESULT_LINES = 5
"""Lines of a tool's result, of about 25 tokens each."""


def tools() -> list[dict[str, object]]:
    """The tools as Chat Completions describes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"{text}. Only files of the project are reached.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        each: {"type": "string", "description": f"The {each} to use"}
                        for each in parameters
                    },
                    "required": list(parameters[:1]),
                },
            },
        }
        for name, (text, parameters) in TOOLS.items()
    ]


def instructions(project: str) -> dict[str, object]:
    """The system prompt; the name of the project is among its first words."""
    rules = (RULE.format(number=number, project=project) for number in range(RULES))
    return {"role": "system", "content": f"You work on {project}. " + " ".join(rules)}


@dataclass
class Agent:
    """One agent's conversation about a `project`; `known` are the tokens that it has had so far."""

    project: str
    number: int
    messages: list[dict[str, object]] = field(default_factory=list)
    turn: int = 0
    known: int = 0

    def __post_init__(self) -> None:
        task = f"Look for the mistake in part {self.number} and tell me what it is."
        self.messages += [instructions(self.project), {"role": "user", "content": task}]

    @property
    def calls(self) -> bool:
        """Whether the next answer has to be a tool call: every other one is text."""
        return self.turn % 2 == 0

    def body(self, max_tokens: int) -> dict[str, object]:
        """The next request."""
        forced = {"type": "function", "function": {"name": CALLED}}
        return {
            "messages": self.messages,
            "tools": tools(),
            "tool_choice": forced if self.calls else "auto",
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def took(self, message: dict[str, object], *, prompt: int, completion: int) -> None:
        """Go on with the answer `message`, of which so many tokens were counted."""
        self.turn += 1
        self.known = prompt + completion
        self.messages.append(message)
        called = message.get("tool_calls")
        if isinstance(called, list) and called:
            result = self._result()
            self.messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": result} for call in called
            ]
        else:
            # Also where a call was wanted: a server may not be able to force one.
            text = f"Go on with part {self.number} and read this.\n{self._result()}"
            self.messages.append({"role": "user", "content": text})

    def elsewhere(self) -> "Agent":
        """The same conversation about another project: nothing of it is known to a server."""
        # As long: the name stands in each rule.
        other = Agent(self.project.replace("project", "house"), self.number, turn=self.turn)
        other.messages[1:] = self.messages[1:]
        return other

    def _result(self) -> str:
        first = 100 * self.turn
        return "".join(
            LINE.format(line=line, before=line - 1, turn=self.turn, number=self.number)
            for line in range(first, first + RESULT_LINES)
        )


def answer_of(stream: bytes) -> dict[str, object]:
    """The message that a stream of chunks is, as a client keeps it to send it back."""
    text, calls = "", dict[int, dict[str, str]]()
    for line in stream.split(b"\n"):
        data = line.removeprefix(b"data: ")
        if data == line or not data.startswith(b"{"):
            continue
        for choice in json.loads(data).get("choices") or []:
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            for part in delta.get("tool_calls") or []:
                call = calls.setdefault(
                    part.get("index", len(calls)), {"name": "", "arguments": ""}
                )
                call["id"] = part.get("id") or call.get("id", "")
                function = part.get("function") or {}
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
    message: dict[str, object] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls.values()
        ]
    elif not text:
        message["content"] = ""
    return message
