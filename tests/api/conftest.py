"""Every test of the HTTP side ends with the event loop as it found it."""

import inspect

import pytest

from tests.api.support import PUBLISHED_SCHEMAS

collect_ignore = [] if PUBLISHED_SCHEMAS.is_dir() else ["test_published_schemas.py"]


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> None:
    # A test that is no coroutine has no loop to leave anything on, and making one takes time.
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        request.getfixturevalue("clean_loop")
