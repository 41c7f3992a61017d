"""Calls as a name and a JSON object between control tokens: Kimi, DeepSeek, Mistral."""

from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Calls,
    NotACall,
    json_arguments,
    offered_name,
)
from mlxd.engine.notations.reading.json_calls import Frame, json_calls
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of

KIMI_SECTION = "<|tool_calls_section_begin|>"
KIMI_CALL = "<|tool_call_begin|>"
_KIMI_ARGUMENTS = "<|tool_call_argument_begin|>"
_KIMI_SECTION_END = "<|tool_calls_section_end|>"
_KIMI_STOPS = markers_of("<|tool_call_end|>", _KIMI_SECTION_END)

DEEPSEEK_SECTION = "<｜tool▁calls▁begin｜>"
DEEPSEEK_CALL = "<｜tool▁call▁begin｜>"
_DEEPSEEK_SEPARATOR = "<｜tool▁sep｜>"
_DEEPSEEK_SECTION_END = "<｜tool▁calls▁end｜>"
_DEEPSEEK_STOPS = markers_of("<｜tool▁call▁end｜>", _DEEPSEEK_SECTION_END)
_FENCE = "```"

MISTRAL_CALL = "[TOOL_CALLS]"
_MISTRAL_ARGUMENTS = "[ARGS]"
_MISTRAL_ID = "[CALL_ID]"


def kimi_section(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read the calls of a section."""
    yield from scan.space()
    yield from scan.accept(KIMI_CALL)
    yield from kimi_call(scan, calls)


def kimi_call(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read `functions.NAME:INDEX`, the arguments, and the calls that follow."""
    while True:
        head = yield from scan.upto(_KIMI_ARGUMENTS, MAX_HEAD)
        if head is None:
            raise NotACall(NOT_WHOLE)
        calls.open(_kimi_name(head.strip(), calls), head.strip())
        yield from json_arguments(scan, calls, _KIMI_STOPS)
        if not (yield from scan.accept(KIMI_CALL)):
            return


def _kimi_name(head: str, calls: Calls) -> str:
    name, _, index = head.rpartition(":")
    name = name if index.isdigit() else head
    return name if calls.offers(name) else name.removeprefix("functions.")


def deepseek_section(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read the calls of a section."""
    yield from scan.space()
    if not (yield from scan.accept(DEEPSEEK_CALL)):
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from deepseek_call(scan, calls)


def deepseek_call(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a call and those that follow: the name, then JSON, which older models put in a fence."""
    while True:
        head = yield from scan.upto(_DEEPSEEK_SEPARATOR, MAX_HEAD)
        if head is None:
            raise NotACall(NOT_WHOLE)
        name: str | None = head.strip()
        fenced = name == "function" and not calls.offers("function")
        if fenced:
            name = yield from scan.upto("\n", MAX_HEAD)
        if name is None:
            raise NotACall(NOT_WHOLE)
        calls.open(name.strip())
        fenced = (yield from _open_fence(scan)) or fenced
        stops = markers_of(*_DEEPSEEK_STOPS.texts, _FENCE if fenced else "")
        yield from json_arguments(scan, calls, stops)
        if not (yield from scan.accept(DEEPSEEK_CALL)):
            return


def _open_fence(scan: Scanner) -> Steps[bool]:
    yield from scan.space()
    if not (yield from scan.accept(_FENCE)):
        return False
    yield from scan.accept("json")
    return True


def mistral_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read an array of JSON calls, or `NAME[ARGS]{…}`, which can repeat."""
    yield from scan.space()
    if scan.char in ("[", "{"):
        yield from json_calls(scan, calls, Frame())
        return
    yield from _mistral_call(scan, calls)
    while scan.char and calls.may_be(scan.char):
        try:
            yield from _mistral_call(scan, calls)
        except NotACall:
            # It was the beginning of a text.
            return


def _mistral_call(scan: Scanner, calls: Calls) -> Steps[None]:
    name = yield from offered_name(scan, calls, "[{ \n")
    own_id: str | None = ""
    yield from scan.space()
    if (yield from scan.accept(_MISTRAL_ID)):
        own_id = yield from scan.upto(_MISTRAL_ARGUMENTS, MAX_HEAD)
    elif scan.char != "{" and not (yield from scan.accept(_MISTRAL_ARGUMENTS)):
        own_id = None
    if own_id is None:
        raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
    calls.open(name, own_id.strip())
    yield from json_arguments(scan, calls)
