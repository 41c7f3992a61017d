"""Turns in an order and a form that a given chat template takes, whatever a caller sent.

Earlier turns don't change when later ones are added, except where a template insists that user and
assistant alternate and turns have to be merged. So a longer conversation keeps its prefix.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Any

from mlxd.engine.notations.notation import Notation
from mlxd.engine.notations.spelling import spelt
from mlxd.engine.notations.table import DESCRIBED, notation_named
from mlxd.engine.prompt.call_ids import numbered, short_id
from mlxd.engine.prompt.chat_template import ChatMessage
from mlxd.engine.prompt.template_traits import CallShape, TemplateTraits, in_parts, with_reasoning
from mlxd.engine.prompt.turns import ChatCall, ChatTurn

FILLER = "OK."
"""What an assistant turn says where the template wants one and takes no empty one."""

DESCRIPTION = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n"
    "<tools>\n{tools}\n</tools>\n\n"
)
IN_JSON = (
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
IN_OTHER = (
    "To call functions, write exactly as in this example, with the names and arguments that you "
    "need:\n"
)
EXAMPLE = ("function_name", {"argument_name": "value"})

TAGS = ("<tool_response>", "</tool_response>", *DESCRIBED.form.tags)
"""What is written here where the template has no form of its own."""


def arrange(
    turns: Sequence[ChatTurn],
    traits: TemplateTraits,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_format: str | None = None,
) -> list[ChatTurn]:
    """`turns` as a template with `traits` takes them; `tools` are those it can't describe."""
    arranged = _place_results([_thinking_in_text(turn, traits) for turn in turns], traits)
    arranged = _lead_with_system(arranged, traits, _described(tools, tool_format) if tools else "")
    if not traits.system_later:
        arranged = [*arranged[:1], *map(_as_reminder, arranged[1:])]
    if traits.calls is None:
        arranged = [_spell_calls(turn, tool_format) for turn in arranged]
    return _alternate(arranged, traits)


def _described(tools: Sequence[Mapping[str, Any]], tool_format: str | None) -> str:
    """Tools in words, to be called in the notation that is read."""
    notation = _notation(tool_format)
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    way = IN_JSON if notation.form == DESCRIBED.form else IN_OTHER + spelt(notation, [EXAMPLE])
    return DESCRIPTION.format(tools=lines) + way


def _notation(tool_format: str | None) -> Notation:
    return notation_named(tool_format or DESCRIBED.name)


def to_messages(turns: Sequence[ChatTurn], traits: TemplateTraits) -> list[ChatMessage]:
    """The turns as the dictionaries that the template reads."""
    if traits.calls is not None and traits.calls.numbered_ids:
        turns = numbered(turns)
    messages = [_to_message(turn, traits) for turn in turns]
    return [in_parts(message) for message in messages] if traits.content_parts else messages


def _lead_with_system(turns: list[ChatTurn], traits: TemplateTraits, tools: str) -> list[ChatTurn]:
    """The system turns in front as one; without support for it, as the user's first words."""
    leading = list(takewhile(lambda turn: turn.role == "system", turns))
    rest = turns[len(leading) :]
    text = "\n\n".join(filter(None, (*(turn.text for turn in leading), tools)))
    if traits.system:
        return [ChatTurn("system", text), *rest] if leading or text else rest
    if not text:
        return rest
    if rest and rest[0].role == "user":
        return [_joined([ChatTurn("user", text), rest[0]]), *rest[1:]]
    return [ChatTurn("user", text), *rest]


def _as_reminder(turn: ChatTurn) -> ChatTurn:
    """A system turn as a marked user turn; any other as it is."""
    if turn.role != "system":
        return turn
    return ChatTurn("user", f"<system-reminder>\n{turn.text}\n</system-reminder>")


def _place_results(turns: Sequence[ChatTurn], traits: TemplateTraits) -> list[ChatTurn]:
    """Each call's results behind it, in the order of the calls and not of their arrival."""
    answered = _with_results(turns)
    placed: list[ChatTurn] = []
    for lost, group in groupby(answered, key=lambda each: each[0].role == "tool"):
        if lost:
            placed.append(_told([turn for turn, _ in group]))
            continue
        for turn, results in group:
            # Behind the last turn the answers may still come.
            going_on = turn is not answered[-1][0]
            placed += _answered(turn, results, traits, going_on=going_on) if turn.calls else [turn]
    return placed


def _answered(
    turn: ChatTurn, results: Sequence[list[ChatTurn]], traits: TemplateTraits, *, going_on: bool
) -> Iterator[ChatTurn]:
    """A turn with calls and their results, as one turn for each call where the template insists."""
    if turn.text and traits.calls is not None and traits.calls_apart and not traits.spoken_calls:
        yield ChatTurn("assistant", turn.text)
        turn = replace(turn, text="")
    groups = [(turn.calls, results)]
    if traits.calls is not None and not traits.parallel_calls:
        groups = [((call,), [found]) for call, found in zip(turn.calls, results, strict=True)]
    for number, (calls, found) in enumerate(groups):
        yield replace(turn if number == 0 else ChatTurn("assistant"), calls=calls)
        followed = going_on or number < len(groups) - 1
        filled = _without_gaps(calls, found, followed and not _takes_unanswered(traits))
        if traits.results:
            yield from filled
        elif filled:
            yield _as_words([result.text for result in filled])


def _with_results(turns: Sequence[ChatTurn]) -> list[tuple[ChatTurn, list[list[ChatTurn]]]]:
    """The turns, each with the results of each of its calls; those of no call stay turns.

    An id belongs to the turn before that used it last. Where several of its calls have the same,
    they are answered in turn.
    """
    answered: list[tuple[ChatTurn, list[list[ChatTurn]]]] = []
    owners: dict[str, list[list[ChatTurn]]] = {}
    for turn in turns:
        if turn.role == "tool" and (same := owners.get(turn.call_id)):
            (same.pop() if len(same) > 1 else same[0]).append(turn)
            continue
        results: list[list[ChatTurn]] = [[] for _ in turn.calls]
        answered.append((turn, results))
        own: dict[str, list[list[ChatTurn]]] = {}
        # The first call of an id at the end, to be answered first.
        for call, found in zip(reversed(turn.calls), reversed(results), strict=True):
            own.setdefault(call.id, []).append(found)
        owners |= own
    return answered


def _takes_unanswered(traits: TemplateTraits) -> bool:
    """Whether a call may stand without a result; calls in a row must not become one turn."""
    if traits.calls is None:
        return True
    return traits.unanswered_calls and (traits.parallel_calls or traits.assistants_in_row)


def _without_gaps(
    calls: Sequence[ChatCall], results: Sequence[list[ChatTurn]], every: bool
) -> list[ChatTurn]:
    """The results in order, with empty ones for calls that have none and need one.

    Most templates show no ids: without it the next call's result would be taken for that of the
    unanswered one.
    """
    last = max((number for number, found in enumerate(results) if found), default=-1)
    filled: list[ChatTurn] = []
    for number, (call, found) in enumerate(zip(calls, results, strict=True)):
        if not found and (every or number < last):
            found = [ChatTurn("tool", call_id=call.id)]
        filled += [replace(result, name=call.name) for result in found]
    return filled


def _told(results: Iterable[ChatTurn]) -> ChatTurn:
    """Results whose calls are not there; their ids may still say something."""
    labels = ((f"Result of {each.call_id}:\n" if each.call_id else "", each) for each in results)
    return _as_words(label + each.text for label, each in labels)


def _as_words(results: Iterable[str]) -> ChatTurn:
    """Results in the user's role."""
    texts = (f"<tool_response>\n{result}\n</tool_response>" for result in results)
    return ChatTurn("user", "\n".join(texts))


def _thinking_in_text(turn: ChatTurn, traits: TemplateTraits) -> ChatTurn:
    if traits.thinking_in_text is None or not (turn.calls and turn.reasoning):
        return turn
    opening, closing = traits.thinking_in_text
    # Calls that are written as text begin on a line of their own.
    gap = "\n\n" if turn.text or traits.calls is not None else "\n"
    thought = f"{opening}\n{turn.reasoning}\n{closing}{gap}"
    return replace(turn, text=thought + turn.text, reasoning="")


def _spell_calls(turn: ChatTurn, tool_format: str | None) -> ChatTurn:
    """Calls as text, in the notation that the model itself would write."""
    if not turn.calls:
        return turn
    calls = spelt(_notation(tool_format), [(call.name, call.arguments) for call in turn.calls])
    text = f"{turn.text}\n{calls}" if turn.text else calls
    return replace(turn, text=text, calls=())


def _alternate(turns: Sequence[ChatTurn], traits: TemplateTraits) -> list[ChatTurn]:
    """Turns merged, dropped and filled in only where the template insists."""
    groups: list[list[ChatTurn]] = []
    for turn in turns:
        before = groups[-1][-1].role if groups else "system"
        if turn.role == "assistant" and turn.empty and not traits.empty_assistant:
            continue
        if before == "system" and turn.role in ("assistant", "tool"):
            groups += [] if traits.assistant_first else [[ChatTurn("user")]]
        in_row = {"user": traits.users_in_row, "assistant": traits.assistants_in_row}
        apart = turn.calls and traits.calls_apart and groups and not groups[-1][-1].calls
        if before == turn.role and not in_row.get(turn.role, True) and not apart:
            groups[-1].append(turn)
            continue
        if before == "tool" and turn.role == "user" and not traits.user_after_results:
            groups.append([ChatTurn("assistant", "" if traits.empty_assistant else FILLER)])
        groups.append([turn])
    placed = [_joined(group) for group in groups]
    if not traits.no_user and not any(_is_question(turn, traits) for turn in placed):
        leads = bool(placed) and placed[0].role == "system"
        placed.insert(int(leads), ChatTurn("user"))
    return placed


def _is_question(turn: ChatTurn, traits: TemplateTraits) -> bool:
    """Whether a template that looks for a user's words finds them in `turn`.

    Those that take several user turns in a row may pass over results in the user's role.
    """
    passed_over = traits.users_in_row and turn.text.startswith("<tool_response>")
    return turn.role == "user" and not passed_over


def _joined(turns: Sequence[ChatTurn]) -> ChatTurn:
    """Turns of one role as one turn."""
    if len(turns) == 1:
        return turns[0]
    return ChatTurn(
        turns[0].role,
        text="\n\n".join(turn.text for turn in turns if turn.text),
        reasoning="\n\n".join(turn.reasoning for turn in turns if turn.reasoning),
        calls=tuple(call for turn in turns for call in turn.calls),
    )


def _to_message(turn: ChatTurn, traits: TemplateTraits) -> ChatMessage:
    shape = traits.calls or CallShape()
    if turn.role == "tool":
        id_ = short_id(turn.call_id) if shape.short_ids else turn.call_id
        return {"role": "tool", "content": turn.text, "tool_call_id": id_, "name": turn.name}
    message: ChatMessage = {"role": turn.role, "content": turn.text}
    if turn.calls and turn.text and turn.reasoning and not traits.reasoned_calls:
        turn = replace(turn, text="", reasoning=f"{turn.reasoning}\n\n{turn.text}")
    if turn.calls:
        message["content"] = turn.text or shape.content
        message["tool_calls"] = [_to_call(call, shape) for call in turn.calls]
    if turn.reasoning:
        return with_reasoning(message, turn.reasoning, traits.reasoning_key)
    return message


def _to_call(call: ChatCall, shape: CallShape) -> dict[str, Any]:
    arguments: dict[str, Any] | str = call.arguments
    if shape.arguments == "text" and isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif shape.arguments == "object" and isinstance(arguments, str):
        arguments = {"arguments": arguments}
    return {
        "id": short_id(call.id) if shape.short_ids else call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }
