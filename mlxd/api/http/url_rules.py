"""Routes that are only matched: nothing here asks for the URL of an endpoint."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from quart.routing import QuartMap, QuartRule
from werkzeug.routing import BaseConverter
from werkzeug.routing.rules import RulePart


class MatchedRule(QuartRule):
    """A rule without code that builds its URL.

    Werkzeug compiles that code for every rule, which takes longer than the rest of making an
    application.
    """

    # Not public in Werkzeug. Under another name there, this is never called, and making an
    # application takes some 50 milliseconds longer, at every start and in every test.
    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _nothing

    # Nor is this. It is the same in every application, and tests make thousands of them.
    def _parse_rule(self, rule: str) -> Iterable[RulePart]:
        parts, converters = _parsed(rule)
        self._converters.update(converters)
        self.arguments.update(converters)
        return parts


@cache
def _parsed(rule: str) -> tuple[tuple[RulePart, ...], Mapping[str, BaseConverter]]:
    alone = QuartRule(rule)
    alone.map = QuartMap()
    return tuple(alone._parse_rule(rule)), alone._converters


def _nothing(*_: object) -> tuple[str, str]:
    raise NotImplementedError("rules are only matched")
