"""Gemma's calls: `call:NAME{key:<|"|>text<|"|>,n:1}`, with keys and short values unquoted."""

import json
import re
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    NOT_WHOLE,
    Calls,
    NotACall,
    all_stops,
    offered_name,
    spill,
)
from mlxd.engine.notations.reading.scanner import Markers, Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import ToolSchema, typed
from mlxd.engine.notations.reading.strings import Outcome, Quote
from mlxd.engine.notations.reading.values import Style, ValueCopy

_ANY_TEXT = re.compile(r"[^\x00]+")


def _read_calls(
    scan: Scanner, calls: Calls, style: Style, end: str, *, untyped: bool
) -> Steps[None]:
    """Read calls up to the end of their region; `untyped` ones have all values in quotes."""
    stops = markers_of(end)
    found = False
    while True:
        yield from scan.space()
        if not (yield from scan.accept("call:")):
            break
        name = yield from offered_name(scan, calls, "{ \n")
        yield from scan.space()
        if scan.char != "{":
            raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
        calls.open(name)
        if not (yield from _arguments(scan, calls, style, stops, untyped=untyped)):
            return
        found = True
    if not found:
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from all_stops(scan, stops)


def _arguments(
    scan: Scanner, calls: Calls, style: Style, stops: Markers, *, untyped: bool
) -> Steps[bool]:
    """Read the arguments and close the call; false when nothing can follow it."""
    written: list[str] = []
    copy = ValueCopy(scan, written.append if untyped else calls.add, style=style, stops=stops)
    outcome = yield from copy.copy()
    text = "".join(written)
    calls.add(_as_declared(text, calls.schema) if outcome is Outcome.WHOLE else text)
    match outcome:
        case Outcome.WHOLE:
            calls.repaired(copy.repairs)
            calls.close()
            return True
        case Outcome.BROKEN:
            yield from spill(scan, calls, stops)
        case Outcome.CUT:
            calls.cut()
    return False


def _as_declared(text: str, schema: ToolSchema) -> str:
    """An object whose texts are what the tool's schema declares: the number 7 for `"7"`."""
    try:
        members = json.loads(text) if text else {}
    except RecursionError:
        return text
    wrong = [
        key
        for key, value in members.items()
        if isinstance(value, str) and not {"string", "any"} & {*(schema.kinds(key) or ("any",))}
    ]
    if not wrong:
        return text
    for key in wrong:
        members[key] = json.loads(typed(members[key], schema.kinds(key) or ()))
    return json.dumps(members, ensure_ascii=False)


def _notation(name: str, start: str, end: str, quote: str, *, untyped: bool = False) -> Notation:
    style = Style(quotes=(Quote(quote, "none"), Quote('"')), bare=_ANY_TEXT)
    return Notation(
        name,
        Form(
            (start + "call:{name}{{", "}}" + end),
            json=False,
            member=("{key}:", ""),
            comma=",",
            values="json",
        ),
        {start: partial(_read_calls, style=style, end=end, untyped=untyped)},
        more=(quote,),
    )


GEMMA4 = _notation("gemma4", "<|tool_call>", "<tool_call|>", '<|"|>')
FUNCTION_GEMMA = _notation(
    "function_gemma", "<start_function_call>", "<end_function_call>", "<escape>", untyped=True
)
