"""What the log says of a host or an origin that is not served: its name, and what to set.

A page in a browser sees nothing but a failed request, and whoever runs the server has this line
alone to go by. Anyone can cause such lines, so there are a few a minute at most.
"""

import json
from collections import deque
from collections.abc import Callable

from mlxd.api.http.request_log import Record

LINES = 6
"""Lines that are logged of refused hosts and origins in `PERIOD`; others are for debugging."""
PERIOD = 60.0
"""Seconds."""
LONGEST = 100
"""Characters of a refused name that are repeated."""


class RefusalLog:
    """Notes refused names in the records of their requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._noted: deque[float] = deque(maxlen=LINES)

    def host(self, record: Record, value: str) -> None:
        """This Host header is not served."""
        self._note(record, f"host={_escaped(value)} (add it to server.allowed_hosts)")

    def origin(self, record: Record, value: str) -> None:
        """Pages of this Origin may not call."""
        self._note(record, f"origin={_escaped(value)} (server.cors_origins)")

    def _note(self, record: Record, text: str) -> None:
        now = self._clock()
        record.muted = len(self._noted) == LINES and now - self._noted[0] < PERIOD
        record.refused = text
        if not record.muted:
            self._noted.append(now)


def _escaped(value: str) -> str:
    # A line break in it would begin a line that looks like one of the log's own.
    return json.dumps(value[:LONGEST])
