"""Routes that are only matched: nothing here asks for the URL of an endpoint."""

from collections.abc import Callable

from quart.routing import QuartRule


class MatchedRule(QuartRule):
    """A rule without code that builds its URL.

    Werkzeug compiles that code for every rule, which takes longer than the rest of making an
    application.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _nothing


def _nothing(*_: object) -> tuple[str, str]:
    raise NotImplementedError("rules are only matched")
