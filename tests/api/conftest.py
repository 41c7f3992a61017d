"""Every test of the HTTP side ends with the event loop as it found it."""

import pytest


@pytest.fixture(autouse=True)
def _nothing_left_behind(clean_loop: None) -> None:
    pass
