"""Where a server listens: its configured port, and those that dialects ask for."""

import errno
import socket

from mlxd.api.app import dialects_for
from mlxd.config.settings import Settings
from mlxd.server.listener import bind


class Taken(Exception):
    """The address or the store's file is another program's; in a line for people."""


def ports_of(settings: Settings) -> tuple[int, ...]:
    """Where to listen: the configured port first, then those that dialects ask for."""
    others = (port for dialect in dialects_for(settings) for port in dialect.ports)
    return tuple(dict.fromkeys((settings.server.port, *others)))


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """A socket for each port, or none of them; raises `Taken`."""
    host, sockets = settings.server.host, list[socket.socket]()
    for port in ports_of(settings):
        try:
            sockets += bind(host, port)
        except OSError as error:
            line = cannot_listen(error, host, port, besides=bool(sockets))
            for sock in sockets:
                sock.close()
            raise Taken(line) from error
    return sockets


def cannot_listen(error: OSError, host: str, port: int, *, besides: bool = False) -> str:
    """One line: why the address can't be listened on, and what to do.

    A port that is listened on `besides` another is in the configuration of a dialect.
    """
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return f"mlxd: the host name '{host}' can't be resolved. Check server.host or --host."
    match error.errno:
        case errno.EADDRINUSE:
            other = f"--port {port + 1}" if port < 65535 else "--port"
            if besides:
                other = "the server without this second port"
            return f"mlxd: {where} is in use by another program. Stop it, or try {other}."
        case errno.EACCES:
            return (
                f"mlxd: not allowed to listen on {where}. Ports below 1024 need root; use --port."
            )
        case errno.EADDRNOTAVAIL:
            return f"mlxd: this machine has no address {host}. Check server.host or --host."
        case _:
            return f"mlxd: can't listen on {where}: {error.strerror}."
