"""Routes that are only matched: nothing here asks for the URL of an endpoint."""

from collections.abc import Callable

from quart.routing import QuartRule


class MatchedRule(QuartRule):
    """A rule without code that builds its URL.

    Werkzeug compiles that code for every rule, which takes longer than the rest of making an
    application.
    """

    # Not public in Werkzeug. Under another name there, this is never called, and making an
    # application takes some 50 milliseconds longer, at every start and in every test.
    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _nothing


def _nothing(*_: object) -> tuple[str, str]:
    raise NotImplementedError("rules are only matched")
