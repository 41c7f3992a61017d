"""Which Host headers and browser origins are served: the defence against DNS rebinding and CSRF.

A page on any site can make its visitor's browser call this machine. Under a name of its own that
resolves here it would send that name as Host; from its own site it sends its Origin. Both must be
on a list, on every bind and for every method.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlxd.config.settings import ServerSettings

_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>\d{1,5}))?"
)
_ORIGIN = re.compile(r"https?://(?P<host>[^/@?#\\\s]+)", re.IGNORECASE)
# Origins of apps, which no page of the web can have: a browser gives a page the scheme that it was
# loaded by. `capacitor` is that of apps made of pages, so only its one usual host is let in.
_APP_ORIGIN = re.compile(
    r"(app|file|tauri|vscode-webview|vscode-file)://[A-Za-z0-9._~-]{0,253}(:\d{1,5})?"
    r"|capacitor://localhost",
    re.IGNORECASE,
)
_PRIVATE_NAME = re.compile(r"([a-z0-9_-]{1,63}\.){1,8}internal")
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,2000}")

EXPOSED = "x-request-id, x-mlxd-model, x-mlxd-ignored, retry-after"
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
USUAL_HEADERS = "authorization, x-api-key, api-key, content-type"


@dataclass(frozen=True)
class Address:
    """A host, lower case and without brackets, and a port, None when none was written."""

    name: str
    port: int | None = None


def parse_host(text: str) -> Address | None:
    """What a Host header names; None when it is not one host."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    port = match["port"]
    if port is not None and int(port) > 65535:
        return None
    return Address(_canonical(match["name"]), None if port is None else int(port))


def is_loopback(name: str) -> bool:
    """Whether a canonical host name can mean this machine only."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_private(name: str) -> bool:
    """Whether a canonical host name is below `.internal`, as containers call their host.

    The name is reserved for private use: nobody can buy one and point it here.
    """
    return _PRIVATE_NAME.fullmatch(name) is not None


class HostList:
    """Loopback and `.internal` names, the configured host, and what the configuration adds.

    An entry with a port is served with that port only. A server that listens on every address
    (`0.0.0.0`, `::`) also answers to the address a connection came in on.
    """

    def __init__(self, server: ServerSettings) -> None:
        self._any_address = server.host in ("0.0.0.0", "::")
        self._allowed = {
            address
            for entry in (server.host, *server.allowed_hosts)
            if (address := _entry(entry)) is not None
        }

    def allows(self, header: str, local_address: str = "") -> bool:
        """Whether a request with this Host header is answered."""
        address = parse_host(header)
        if address is None:
            return False
        # Every resolver gives these names to the machine itself, so nobody can rebind them.
        if is_loopback(address.name) or is_private(address.name):
            return True
        # The machine's own addresses are not known beforehand: laptops change networks.
        if self._any_address and local_address and address.name == _canonical(local_address):
            return True
        return address in self._allowed or Address(address.name) in self._allowed


class OriginList:
    """Loopback origins of any port, those of apps, and those the configuration names exactly."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._exact = {origin.lower() for origin in origins}

    def allows(self, origin: str) -> bool:
        """Whether pages of `origin` may call."""
        # The exact text, as browsers write it: a suffix or a prefix would also match other sites.
        if "*" in self._exact or origin.lower() in self._exact:
            return True
        if _APP_ORIGIN.fullmatch(origin):
            return True
        match = _ORIGIN.fullmatch(origin)
        address = parse_host(match["host"]) if match else None
        return address is not None and is_loopback(address.name)


def is_own_page(origin: str, host: str) -> bool:
    """Whether a page of `origin` calls the very `host` that it came from; that host is served.

    So the page at `/` works under every name that the server has, with nothing to configure.
    """
    match = _ORIGIN.fullmatch(origin)
    return match is not None and match["host"].lower() == host.lower()


def cors_headers(origin: str) -> dict[str, str]:
    """What lets a page of `origin` read the response."""
    return {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED}


def preflight_headers(origin: str, requested: str, *, private_network: bool) -> dict[str, str]:
    """The answer to a browser's preflight; `requested` are the headers that it would send."""
    headers = {
        **cors_headers(origin),
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": requested
        if _HEADER_NAMES.fullmatch(requested)
        else USUAL_HEADERS,
        # Browsers ask again after ten minutes, so that a change of the configuration shows soon.
        "access-control-max-age": "600",
    }
    # Chrome asks for it before a public site may reach a private address.
    if private_network:
        headers["access-control-allow-private-network"] = "true"
    return headers


def _entry(text: str) -> Address | None:
    """A configured host; an IPv6 address may stand there without brackets."""
    try:
        return Address(_canonical(str(ipaddress.ip_address(text))))
    except ValueError:
        return parse_host(text)


def _canonical(name: str) -> str:
    bare = name.strip("[]").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare.removesuffix(".")
