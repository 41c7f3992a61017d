"""The servers of this account that run, and what each of them says of itself."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlxd.admin_token import Access, chosen, running
from mlxd.commands.options import load
from mlxd.commands.own_server import fetched
from mlxd.errors import ConfigError


def servers(config_file: Path | None) -> list[Access]:
    """Every server, oldest first; also one whose token is where a configuration says.

    That is the configuration of this folder, or the one that is named, and that of a service.
    """
    found = running()
    for service in (False, True):
        try:
            loaded = load(None if service else config_file, service=service)
        except ConfigError:
            # A file with a mistake is no reason to leave servers alone, unless it was named.
            if config_file is not None and not service:
                raise
        else:
            found += running(chosen(loaded.settings.admin.token_file, loaded.file))
    once = {access.pid: access for access in found}
    return sorted(once.values(), key=lambda access: access.started)


def statuses(found: Sequence[Access]) -> list[Mapping[str, Any]]:
    """`/admin/status` of each, empty for one that does not answer."""

    def status(access: Access) -> Mapping[str, Any]:
        got = fetched(access.url, "/admin/status", access.token)
        # Else it is an error, or another program's answer.
        return got if got.get("server", {}).get("pid") == access.pid else {}

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(status, found))


def port_of(access: Access) -> int:
    """The port that a server listens on."""
    return urlsplit(access.url).port or 0
