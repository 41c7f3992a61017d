"""Every test of the HTTP side ends with the event loop as it found it."""

import pytest

from tests.api.support import PUBLISHED_SCHEMAS

collect_ignore = [] if PUBLISHED_SCHEMAS.is_dir() else ["test_published_schemas.py"]


@pytest.fixture(autouse=True)
def _nothing_left_behind(clean_loop: None) -> None:
    pass
