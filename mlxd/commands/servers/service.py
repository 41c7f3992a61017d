"""`mlxd service`: have systemd or launchd run the server of this account."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxd import called
from mlxd.commands.options import fail
from mlxd.commands.servers.logs import count_option, follow_option, request_option, show

if TYPE_CHECKING:
    from mlxd.service.managers import Manager

FAILED, NOT_RUNNING, NOT_INSTALLED = 1, 3, 4
"""Exit codes; the last two are those of `systemctl status`."""

print_option = click.option(
    "--print", "shown", is_flag=True, help="Print what would be written and run; do nothing."
)


def _in_words(command: Callable[..., int]) -> Callable[..., int]:
    """What the manager refuses becomes a line."""

    @wraps(command)
    def run(**options: Any) -> int:
        from mlxd.service.managers import ManagerFailed

        try:
            return command(**options)
        except (ManagerFailed, OSError) as error:
            fail(str(error))
            return FAILED

    return run


def _manager(*, shown: bool = False) -> "Manager":
    from mlxd.service.managers import manager_for

    return manager_for(sys.platform, Path.home(), needed=not shown)


@click.group()
def service() -> None:
    """Run the server in the background, from each login on."""


@service.command()
@print_option
@click.option("--no-doctor", is_flag=True, help="Do not check first whether it could serve.")
@_in_words
def install(*, shown: bool, no_doctor: bool) -> int:
    """Install and start the service; what runs of an older one is restarted.

    It reads the file of your configuration folder, not ./mlxd.toml.
    """
    from mlxd.admin_token import running
    from mlxd.commands.servers import installation
    from mlxd.commands.servers.found import port_of
    from mlxd.service.log_files import server_log

    manager = _manager(shown=shown)
    plan = installation.planned(os.environ)
    for note in plan.notes:
        fail(note)
    if shown:
        click.echo(manager.unit(plan.service), nl=False)
        _show(f"into {manager.unit_file}, then", *map(str, manager.install))
        return 0
    if manager.foreign:
        fail(f"{manager.unit_file} is not mlxd's; move it away first.")
        return FAILED
    manager.state()
    taken = plan.loaded.settings.server.port
    for other in running():
        if other.started_by != "service" and port_of(other) == taken:
            fail(f"a server runs at {other.url}; end it first: {called()} stop --port {taken}")
            return FAILED
    if not no_doctor and not installation.checked(plan):
        fail("not installed; --no-doctor installs it all the same.")
        return FAILED
    if not installation.end_service(manager):
        fail("the service that runs does not end.")
        return FAILED
    installation.write_unit(manager, plan.service)
    click.echo(f"Wrote {manager.unit_file}.")
    if not installation.start_service(manager, manager.install, plan.loaded):
        return FAILED
    click.echo(f"Its log is {server_log()}; `{called()} service logs -f` follows it.")
    if manager.name == "systemd" and not installation.lingers():
        click.echo("It ends when you log out, unless you run: loginctl enable-linger")
    return 0


@service.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_in_words
def status(*, as_json: bool) -> int:
    """Show whether the service is installed and runs, and why not.

    Ends with 0 when it runs, 3 when it does not, 4 when it is not installed.
    """
    from mlxd.commands.output.json_forms import ServiceReport, print_as
    from mlxd.commands.servers.installation import facts_of

    facts = facts_of(_manager())
    if as_json:
        print_as(ServiceReport, facts)
    else:
        for line in _status_lines(facts):
            click.echo(line)
    if not facts["installed"]:
        return NOT_INSTALLED
    return 0 if facts["pid"] else NOT_RUNNING


def _status_lines(facts: dict[str, Any]) -> list[str]:
    from mlxd.server.logs import printable
    from mlxd.tui.format import span

    if not facts["installed"]:
        return [f"not installed; `{called()} service install` does it"]
    rows = [
        ("state", f"{facts['state']} ({facts['manager']})"),
        ("unit", facts["unit"]),
        ("log", facts["log"]),
    ]
    if facts["pid"]:
        rows.append(("process", str(facts["pid"])))
    if facts["url"]:
        answer = f"{facts['health']}, up {span(facts['uptime'])}" if facts["health"] else "silent"
        rows.append(("server", f"{facts['url']} ({answer})"))
    if facts["restart_needed"]:
        running, installed = facts["version"], facts["installed_version"]
        text = f"{running} runs, {installed} is installed: {called()} service restart"
        rows.append(("version", text))
    if facts["last_exit"] and not facts["url"]:
        last = facts["last_exit"]
        lines = str(last["reason"]).splitlines()
        rows.append(("ended", f"{lines[0]} (exit code {last['code']})"))
        rows += [("", line) for line in lines[1:]]
        rows.append(("", f"put that right, then: {called()} service restart"))
    return [f"{label:<8} {printable(text)}" for label, text in rows]


@service.command("logs")
@follow_option
@count_option
@request_option
def service_logs(*, follow: bool, count: int, request: str | None) -> int:
    """Show the log of the service."""
    from mlxd.service.log_files import server_log

    return show(server_log(), follow=follow, count=count, request=request)


@service.command()
@print_option
@_in_words
def restart(*, shown: bool) -> int:
    """End the service in order, and start it again: after an update, or after it has ended."""
    from mlxd.commands.options import load
    from mlxd.commands.servers import installation

    manager = _manager(shown=shown)
    if shown:
        _show("until it has ended", *map(str, manager.stop))
        _show("then", *map(str, manager.start))
        return 0
    if not manager.installed:
        return _not_installed()
    loaded = load(None, service=True)
    if not installation.end_service(manager):
        fail("the service does not end.")
        return FAILED
    return 0 if installation.start_service(manager, manager.start, loaded) else FAILED


@service.command()
@print_option
@_in_words
def uninstall(*, shown: bool) -> int:
    """End the service and take its unit away; configuration, models and log stay."""
    from mlxd.commands.servers import installation

    manager = _manager(shown=shown)
    if shown:
        _show("until it has ended", *map(str, manager.stop))
        removal = [*map(str, manager.remove), f"rm {manager.unit_file}", *map(str, manager.removed)]
        _show("then", *removal)
        return 0
    if not manager.installed:
        return _not_installed()
    if not installation.end_service(manager):
        fail("the service does not end.")
        return FAILED
    installation.remove_unit(manager)
    click.echo(f"Removed {manager.unit_file}.")
    return 0


def _not_installed() -> int:
    fail(f"the service is not installed; `{called()} service install` does it.")
    return NOT_INSTALLED


def _show(head: str, *commands: str) -> None:
    """What would be run, on stderr: stdout is for the unit alone."""
    click.echo("\n".join([f"# {head}:", *commands]), err=True)
