"""The end of servers: they are asked to, and what they wait for is shown until they are gone."""

import http.client
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from mlxd.admin_token import Access
from mlxd.commands.options import fail
from mlxd.commands.own_server import fetched
from mlxd.server.logs import printable
from mlxd.service.processes import lives, send
from mlxd.status import RequestStatus, Status
from mlxd.tui.format import plural, span

POLL = 0.05
SILENCE = 5.0
"""Seconds without news, where one comes each second, after which a server says nothing more."""
OVERTIME = 15.0
"""Seconds past `drain_seconds` in which a server has ended by itself, or never does."""
SHOWN = 3
"""Requests that are named of those that are waited for."""


def end(asks: Mapping[Access, Callable[[], None]], *, now: bool) -> list[Access]:
    """Have servers end, by what asks each of them; those that have not.

    `now` does not wait for their requests, and kills a process that hangs.
    """
    limits = {each: OVERTIME + (0.0 if now else _drain_seconds(each)) for each in asks}
    with ExitStack() as stack:
        # Before they are asked: they take no new connections after that.
        news = {each: stack.enter_context(closing(_News(each))) for each in asks}
        stack.enter_context(_interrupts(asks))
        for access, ask in asks.items():
            ask()
            if now:
                send(access, signal.SIGINT)
        left = [each for each in asks if not _gone(each, news[each], limits[each])]
    if not now:
        return left
    for access in left:
        fail(f"process {access.pid} does not end: it is killed.")
        send(access, signal.SIGKILL)
    return [each for each in left if not _gone(each, None, OVERTIME)]


def _gone(access: Access, news: "_News | None", limit: float) -> bool:
    """Whether a process ends within a limit; shows what it waits for meanwhile."""
    until = time.monotonic() + limit
    shown: set[str] = set()
    while lives(access):
        if time.monotonic() > until:
            return False
        requests = news.next() if news else None
        if requests is None:
            time.sleep(POLL)
        elif (ids := {each.id for each in requests}) != shown:
            shown = ids
            if requests:
                click.echo(waits_for(requests), err=True)
    return True


def waits_for(requests: tuple[RequestStatus, ...]) -> str:
    """One line about the requests that a server still answers."""
    named = [
        f"{each.agent or each.dialect} {each.model} {each.phase} "
        f"{each.figures.completion_tokens} tokens {span(each.age)}"
        for each in requests[:SHOWN]
    ]
    more = len(requests) - SHOWN
    named += [f"{more} more"] if more > 0 else []
    return printable(f"  waiting for {plural(len(requests), 'request')}: {'; '.join(named)}")


@contextmanager
def _interrupts(asked: Iterable[Access]) -> Iterator[None]:
    """Ctrl-C asks to be sure, then has the servers hurry, then gives up waiting for them."""
    pressed = 0

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        match pressed:
            case 1:
                click.echo("  Ctrl-C again ends what still runs now.", err=True)
            case 2:
                for access in asked:
                    send(access, signal.SIGINT)
            case _:
                raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _drain_seconds(access: Access) -> float:
    config: dict[str, Any] = fetched(access.url, "/admin/config", access.token)
    value = config.get("settings", {}).get("server", {}).get("drain_seconds", 0.0)
    return float(value)


class _News:
    """The requests of a server, as `/admin/events` has them until it has ended."""

    def __init__(self, access: Access) -> None:
        address = urlsplit(access.url)
        self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=SILENCE
        )
        self._event = b""
        self._answer: http.client.HTTPResponse | None = None
        headers = {"authorization": f"Bearer {access.token}"}
        with suppress(OSError, http.client.HTTPException):
            self._connection.request("GET", "/admin/events", headers=headers)
            answer = self._connection.getresponse()
            self._answer = answer if answer.status == 200 else None

    def next(self) -> tuple[RequestStatus, ...] | None:
        """The requests now, when there is news of them; None when none is to come."""
        while self._answer is not None:
            try:
                line = self._answer.readline()
                if line.startswith(b"event:"):
                    self._event = line[6:].strip()
                elif line.startswith(b"data:") and self._event == b"status":
                    return msgspec.json.decode(line[5:], type=Status).engine.requests
            except (OSError, http.client.HTTPException, ValueError):
                line = b""
            if not line:
                self._answer = None
        return None

    def close(self) -> None:
        self._connection.close()
