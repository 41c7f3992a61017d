"""`mlxd stop`: end a server of this account, and wait until it has."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd.commands.options import config_option, fail

if TYPE_CHECKING:
    from mlxd.admin_token import Access
    from mlxd.service.managers import Manager

NOT_STOPPED = 1
WHICH = 2


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The server on this port.")
@click.option("--all", "every", is_flag=True, help="Every server of this account.")
@click.option("--now", is_flag=True, help="Do not wait for requests that run.")
@config_option
def stop(*, port: int | None, every: bool, now: bool, config_file: Path | None) -> int:
    """Stop a server: it finishes what it answers, as after Ctrl-C.

    Ctrl-C twice ends its requests now. Ends with 0 when it is gone, 1 when none runs or it did not
    end, 2 when it is not clear which one is meant.
    """
    from mlxd.commands.servers.found import port_of, servers

    if port and every:
        raise click.UsageError("Give --port or --all, not both.")
    found = [access for access in servers(config_file) if port in (None, port_of(access))]
    if not found:
        fail(f"no server of this account runs{f' on port {port}' if port else ''}.")
        return 0 if every else NOT_STOPPED
    if len(found) > 1 and not every:
        fail("several servers run; name one with --port, or take --all:")
        for access in found:
            click.echo(f"  {access.url}  process {access.pid}", err=True)
        return WHICH
    from mlxd.commands.servers.ending import end
    from mlxd.service.managers import ManagerFailed
    from mlxd.service.processes import lives

    known = [access for access in found if lives(access)]
    for access in found:
        if access in known:
            click.echo(f"Stopping {_name(access)}.", err=True)
        else:
            # Its number may be another process's by now, or mean another one out of a container.
            fail(f"{_name(access)} can't be told to be that server; it is left alone.")
    managers = {access: manager for access in known if (manager := _manager_of(access))}
    asks = {access: partial(_ask, access, managers.get(access)) for access in known}
    try:
        left = end(asks, now=now)
    except ManagerFailed as error:
        fail(str(error))
        return NOT_STOPPED
    for access in left:
        fail(f"{_name(access)} does not end; --now ends it whatever it does.")
    if len(left) < len(known):
        click.echo("Stopped.", err=True)
    if managers:
        click.echo("It starts at the next login; `mlxd service uninstall` ends that.", err=True)
    return NOT_STOPPED if left or len(known) < len(found) else 0


def _name(access: "Access") -> str:
    return f"{access.url} (process {access.pid})"


def _ask(access: "Access", manager: "Manager | None") -> None:
    """Ask a server to end, through whoever would start it anew."""
    from mlxd.service.managers import carry_out
    from mlxd.service.processes import send

    if manager:
        carry_out(manager.stop)
    else:
        send(access, signal.SIGTERM)


def _manager_of(access: "Access") -> "Manager | None":
    """Who would start the server anew if it were only signalled, if someone would."""
    from mlxd.service.managers import ManagerFailed, manager_for

    if access.started_by != "service":
        return None
    try:
        manager = manager_for(sys.platform, Path.home())
        return manager if manager.state().pid == access.pid else None
    except ManagerFailed:
        return None
