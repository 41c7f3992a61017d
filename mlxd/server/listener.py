"""Listening sockets, and all connections together: how many there may be, and how they end.

Hypercorn's own server is not used: on Python 3.12 and later its shutdown never ends while a stream
is open.
"""

import asyncio
import errno
import logging
import resource
import socket
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from operator import itemgetter

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from mlxd.server.connection import Connection, Limits
from mlxd.server.http11 import MAX_HEAD, Unread, of_nobody

log = logging.getLogger(__name__)

BACKLOG = 128
"""Connections that wait to be accepted."""
ENOUGH_FILES = 65_536
"""File descriptors for more clients than are served; some limits are absurdly high."""
RESERVED_FILES = 64
"""File descriptors kept for everything but clients."""
TURNED_AWAY = 16
"""Connections beyond the limit that live long enough to be told so."""
TURNED_AWAY_HEAD = 1.0
"""Seconds such a connection has to send its request."""
ACCEPT_RETRY = 0.25
"""Seconds until accepting is tried again when the system has no file descriptor left."""


def raise_file_limit() -> None:
    """Let this process open as many files as the system lets it: each client takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft == resource.RLIM_INFINITY or soft >= enough:
        return
    # Where the kernel has a lower limit of its own than it says, the process goes on as it was.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for `host`; port 0 takes a free one. Raises `OSError`.

    On 127.0.0.1 the same port of ::1 is taken too where that is possible, because some programs
    that are told `localhost` try only that.
    """
    addresses = _resolve(host, port)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in addresses:
        try:
            sockets.append(_listen(family, address, port, dual=len(addresses) == 1))
        except OSError as error:
            # `localhost` also means ::1 where there is no IPv6.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                _close(sockets)
                raise
            missing = error
        else:
            port = sockets[-1].getsockname()[1]
    if missing is not None and not sockets:
        raise missing
    if [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]:
        try:
            sockets.append(_listen(socket.AF_INET6, "::1", port))
        except OSError as error:
            log.debug("not listening on [::1]:%d: %s", port, error.strerror)
    return sockets


def _resolve(host: str, port: int) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _listen(family: int, address: str, port: int, *, dual: bool = False) -> socket.socket:
    dual = dual and address == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        (address, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual
    )


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def is_fair(taken: list[str], address: str, limits: Limits) -> bool:
    """Whether `address` may have one connection more; `taken` has the addresses of all."""
    if not address or ip_address(address.partition("%")[0]).is_loopback:
        return True
    return taken.count(address) < limits.connections_per_address


class Listener:
    """Accepts clients for an ASGI application until told to stop."""

    def __init__(
        self, app: ASGIFramework, limits: Limits | None = None, unread: Unread = of_nobody
    ) -> None:
        limits = limits or Limits()
        self._app = app
        self._unread = unread
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY and limits.connections > files - RESERVED_FILES:
            limits = replace(limits, connections=max(1, files - RESERVED_FILES))
            log.warning(
                "at most %d connections: this process may open only %d files",
                *(limits.connections, files),
            )
        self._limits = limits
        self._config = Config()
        self._config.websocket_max_message_size = limits.message
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = MAX_HEAD
        # As good as none: the sender of a thousand requests a second is no reason to reconnect.
        self._config.keep_alive_max_requests = 10_000
        self._config.errorlog = logging.getLogger("mlxd.hypercorn")
        self._context = WorkerContext(None)
        # With the address of its client; None for a connection that does not count.
        self._connections: dict[Connection, str | None] = {}
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    @property
    def open_connections(self) -> int:
        """Connections that are not closed yet."""
        return len(self._connections)

    def start(self, sockets: list[socket.socket]) -> None:
        """Accept from `sockets`, which belong to the listener from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            self._sockets.append(sock)
            self._accepting.append(loop.create_task(self._accept(sock)))

    async def stop_accepting(self) -> None:
        """Take no more connections; every answer from now on is the last on its connection."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        _close(self._sockets)
        # Hypercorn then sends `connection: close`, so that no client begins another request here.
        self._config.keep_alive_max_requests = 0
        await self._context.terminated.set()

    async def close(self, patience: float) -> None:
        """Close idle connections now, others once answered or after `patience` seconds.

        Returns when the application's handlers have ended; those of aborted connections get
        `patience` seconds more.
        """
        for connection in list(self._connections):
            if not connection.busy:
                connection.hang_up()
        await self._all_ended(patience)
        for connection in list(self._connections):
            connection.abort()
        await self._all_ended(patience)
        if self._connections:
            log.warning("%d requests did not end when cancelled", len(self._connections))

    async def _all_ended(self, patience: float) -> None:
        tasks = [connection.task for connection in self._connections]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            try:
                client, address = await loop.sock_accept(sock)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if not failing:
                    log.warning("can't accept connections: %s", error.strerror)
                failing = True
                await asyncio.sleep(ACCEPT_RETRY)
            else:
                failing = False
                await self._admit(client, address[0] if address else "")

    async def _admit(self, client: socket.socket, address: str) -> None:
        taken = [owner for owner in self._connections.values() if owner is not None]
        welcome = is_fair(taken, address, self._limits) and (
            len(taken) < self._limits.connections or self._make_room()
        )
        # Some are told so in words; a flood of them is cut off, as each costs memory and time.
        if not welcome and list(self._connections.values()).count(None) >= TURNED_AWAY:
            client.close()
            return
        limits = self._limits if welcome else replace(self._limits, head=TURNED_AWAY_HEAD)
        connection = Connection(
            *(self._app, self._config, self._context, limits),
            turn_away=not welcome,
            unread=self._unread,
        )
        loop = asyncio.get_running_loop()
        try:
            # asyncio leaves it undone for sockets that name no protocol, like ours. Without it the
            # kernel holds back a small write until the client has acknowledged the last one.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: connection, client)
        except OSError:
            client.close()
            return
        self._connections[connection] = address if welcome else None
        connection.task.add_done_callback(partial(self._forget, connection))

    def _make_room(self) -> bool:
        """Drop the client that has kept us waiting longest, if one has for long enough."""
        latest = asyncio.get_running_loop().time() - self._limits.grace
        waiting = [
            (since, connection)
            for connection, owner in self._connections.items()
            if owner is not None and (since := connection.owing_since) is not None
            if since < latest
        ]
        if not waiting:
            return False
        longest = min(waiting, key=itemgetter(0))[1]
        self._connections[longest] = None
        longest.abort()
        return True

    def _forget(self, connection: Connection, task: asyncio.Task[None]) -> None:
        del self._connections[connection]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed", exc_info=error)
