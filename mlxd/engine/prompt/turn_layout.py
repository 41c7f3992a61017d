"""Turns in an order and a form that a given chat template takes, whatever a caller sent.

Earlier turns don't change when later ones are added, except where a template insists that user and
assistant alternate and turns have to be merged. So a longer conversation keeps its prefix.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from mlxd.engine.notations.notation import Notation
from mlxd.engine.notations.spelling import spelt
from mlxd.engine.notations.table import DESCRIBED, notation_named
from mlxd.engine.prompt.call_ids import numbered, short_id
from mlxd.engine.prompt.chat_template import ChatMessage
from mlxd.engine.prompt.template_traits import CallShape, TemplateTraits, in_parts
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
    arranged = _place_results(turns, native=traits.results)
    arranged = _lead_with_system(arranged, traits, _described(tools, tool_format) if tools else "")
    if not traits.system_later:
        arranged = [*arranged[:1], *map(_as_reminder, arranged[1:])]
    if traits.calls is None:
        arranged = [_spell_calls(turn, tool_format) for turn in arranged]
    elif not traits.parallel_calls:
        arranged = _serialise_calls(arranged)
    if traits.calls is not None and not traits.unanswered_calls:
        arranged = _answer_calls(arranged)
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


def _place_results(turns: Sequence[ChatTurn], *, native: bool) -> list[ChatTurn]:
    """Results in the tool role where they follow their calls, else as the user's words."""
    placed: list[ChatTurn] = []
    for turn, results in _with_results(turns):
        if turn.role == "tool":
            results = [turn, *results]
        else:
            placed.append(turn)
        if native and turn.calls:
            names = {call.id: call.name for call in turn.calls}
            for position, result in enumerate(results):
                # Callers get ids wrong; the order of results is the next best sign.
                nth = turn.calls[min(position, len(turn.calls) - 1)]
                placed.append(replace(result, name=names.get(result.call_id, nth.name)))
        elif results:
            texts = (f"<tool_response>\n{result.text}\n</tool_response>" for result in results)
            placed.append(ChatTurn("user", "\n".join(texts)))
    return placed


def _spell_calls(turn: ChatTurn, tool_format: str | None) -> ChatTurn:
    """Calls as text, in the notation that the model itself would write."""
    if not turn.calls:
        return turn
    calls = spelt(_notation(tool_format), [(call.name, call.arguments) for call in turn.calls])
    text = f"{turn.text}\n{calls}" if turn.text else calls
    return replace(turn, text=text, calls=())


def _serialise_calls(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """Several calls of one turn as one turn each, every one with its result behind it."""
    serial: list[ChatTurn] = []
    for turn, results in _with_results(turns):
        if len(turn.calls) < 2:
            serial += [turn, *results]
            continue
        for number, call in enumerate(turn.calls):
            caller = turn if number == 0 else ChatTurn("assistant")
            serial.append(replace(caller, calls=(call,)))
            if results:
                ids = [result.call_id for result in results]
                serial.append(results.pop(ids.index(call.id) if call.id in ids else 0))
        serial += results
    return serial


def _with_results(turns: Sequence[ChatTurn]) -> Iterator[tuple[ChatTurn, list[ChatTurn]]]:
    """Each turn with the turns of the tool role that follow it."""
    at = 0
    while at < len(turns):
        end = at + 1
        while end < len(turns) and turns[end].role == "tool":
            end += 1
        yield turns[at], list(turns[at + 1 : end])
        at = end


def _answer_calls(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """Empty results for calls that were never answered, unless the answers may still come."""
    answered: list[ChatTurn] = []
    for turn, results in _with_results(turns):
        answered += [turn, *results]
        # Behind the last turn the answers may still come.
        if answered[-1] is not turns[-1]:
            missing = turn.calls[len(results) :]
            answered += [ChatTurn("tool", call_id=call.id, name=call.name) for call in missing]
    return answered


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
        if before == turn.role and not in_row.get(turn.role, True):
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
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    if turn.calls:
        message["content"] = turn.text or shape.content
        message["tool_calls"] = [_to_call(call, shape) for call in turn.calls]
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
