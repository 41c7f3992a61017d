"""Harmony: all of an answer is messages, and a call is a message to a function."""

from mlxd.engine.notations.notation import Form, MessageForm, Notation
from mlxd.engine.notations.reading.headers import Headers, MessageRoute, Place, recipient


def _route(header: str) -> MessageRoute:
    to = recipient(header)
    if "<|channel|>analysis" in header:
        place: Place = "reasoning"
    else:
        # What tools answer is sent to the assistant: the model made this one up.
        place = "aside" if to == "assistant" and "<|channel|>final" not in header else "text"
    if to in ("user", "assistant", "all"):
        to = ""
    return MessageRoute(place, to.removeprefix("functions."))


_FOLLOWING = "<|start|>assistant"
_FINAL = "<|channel|>final<|message|>"

HARMONY = Notation(
    "harmony",
    Form(
        ("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>", ""),
        single=True,
        messages=MessageForm(
            thinking=("<|channel|>analysis<|message|>", "<|end|>"),
            following=_FOLLOWING,
            final=_FINAL,
            structural=(
                *(_FOLLOWING, _FINAL, "<|channel|>commentary<|message|>"),
                *("<|end|>", "<|return|>"),
            ),
        ),
    ),
    bare=None,
    headers=Headers(
        begins=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "assistant", "to="),
        opens=("<|start|>", "<|channel|>"),
        closes=("<|end|>", "<|call|>", "<|return|>"),
        route=_route,
    ),
    tokens=("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
)
