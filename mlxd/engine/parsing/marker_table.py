"""The markers that lead from one state of reading to the next, from a model's `Markup`."""

from typing import Literal, NamedTuple

from mlxd.engine.interface import Markup
from mlxd.engine.notations.notation import Notation
from mlxd.engine.notations.reading.headers import Place
from mlxd.engine.notations.table import notation_named

State = Place | Literal["start"]
"""`start` is where a message begins whose header is still to come."""
Role = Literal["tag", "again", "answer", "markup", "call", "line", "header", "close"]


class Edge(NamedTuple):
    """What a marker means in a state, and the state behind it."""

    role: Role
    to: State


Table = dict[State, dict[str, Edge]]


def build_table(markup: Markup, notation: Notation | None) -> Table:
    """The markers of each state; where two mean the same text, the first entry counts.

    `notation` is None when no call may be read.
    """
    table: Table = {"text": {}, "reasoning": {}}
    named = notation_named(markup.tool_format)
    headers = named.headers
    if headers is None:
        _add_tags(table, markup.reasoning)
    for opening in named.answers:
        table["reasoning"].setdefault(opening, Edge("answer", "text"))
    for start in notation.starts if notation else ():
        _add_everywhere(table, start, Edge("call", "text"))
    if notation and notation.bare_lines:
        table["text"]["\n{"] = Edge("line", "text")
    if headers is None:
        for control in markup.structural:
            table["text"].setdefault(control, Edge("markup", "text"))
            table["reasoning"].setdefault(control, Edge("markup", "reasoning"))
        return table
    table["plain"], table["aside"] = {}, {}
    # The headers say what the tags and control texts of such a model stand for.
    for close in headers.closes:
        _add_everywhere(table, close, Edge("close", "start"))
    for opening in headers.opens:
        _add_everywhere(table, opening, Edge("header", "start"))
    return table


def _add_tags(table: Table, pairs: tuple[tuple[str, str], ...]) -> None:
    # Two pairs may share a text: what changes the state goes before what is only out of place.
    for opening, closing in pairs:
        table["text"].setdefault(opening, Edge("tag", "reasoning"))
        table["reasoning"].setdefault(closing, Edge("tag", "text"))
    for opening, closing in pairs:
        table["text"].setdefault(closing, Edge("tag", "text"))
        table["reasoning"].setdefault(opening, Edge("again", "reasoning"))


def _add_everywhere(table: Table, marker: str, edge: Edge) -> None:
    for edges in table.values():
        edges.setdefault(marker, edge)
