"""Ids of calls in a form that a template insists on; what callers see stays theirs."""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from mlxd.engine.prompt.turns import ChatTurn

SHORT_ID = 9
"""Letters and digits of a call's id, where a template insists."""


def short_id(id_: str) -> str:
    """`id_`, or always the same letters and digits in its place."""
    # A hash, so that the call and its result, and the next request, have the same one.
    if len(id_) == SHORT_ID and id_.isascii() and id_.isalnum():
        return id_
    return hashlib.sha256(id_.encode()).hexdigest()[:SHORT_ID]


def numbered(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """Turns whose calls are `functions.NAME:N`, counted over the conversation; results follow.

    An id belongs to the turn before that used it last. Where several of its calls have the same,
    they are answered in turn.
    """
    renamed: list[ChatTurn] = []
    owners: dict[str, deque[str]] = {}
    count = 0
    for turn in turns:
        if turn.role == "tool":
            ids = owners.get(turn.call_id, deque((turn.call_id,)))
            renamed.append(replace(turn, call_id=ids[0]))
            if len(ids) > 1:
                ids.popleft()
            continue
        calls = []
        for id_ in {call.id for call in turn.calls}:
            owners[id_] = deque()
        for call in turn.calls:
            new = f"functions.{call.name}:{count}"
            owners[call.id].append(new)
            calls.append(replace(call, id=new))
            count += 1
        renamed.append(replace(turn, calls=tuple(calls)))
    return renamed
