"""The command line. Nothing slow is imported before a command runs."""

import os
from collections.abc import Sequence

import click

from mlxd import __version__
from mlxd.commands.chat import chat
from mlxd.commands.completion import completion
from mlxd.commands.config import config
from mlxd.commands.doctor import doctor
from mlxd.commands.init import init
from mlxd.commands.launch import launch
from mlxd.commands.models.listing import models
from mlxd.commands.options import fail
from mlxd.commands.prefixes import prefixes
from mlxd.commands.pull import pull
from mlxd.commands.run import run as run_
from mlxd.commands.serve import serve
from mlxd.commands.servers.logs import logs
from mlxd.commands.servers.ps import ps
from mlxd.commands.servers.reload import reload_
from mlxd.commands.servers.service import service
from mlxd.commands.servers.stop import stop
from mlxd.commands.top import top

INTERRUPTED = 130
DEBUG = "MLXD_DEBUG"
"""Environment variable; with any value, unexpected errors end in a traceback."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlxd", message="%(prog)s %(version)s")
def cli() -> None:
    """The local inference server: models of your machine behind the APIs that apps speak."""
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


for command in (
    *(run_, launch, init, serve, top, chat, pull, models, prefixes, doctor, config),
    *(ps, stop, reload_, logs, service, completion),
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(cli, args)


def run(group: click.Group, args: Sequence[str] | None = None) -> int:
    """Run a group of commands; whatever goes wrong becomes a line on stderr and an exit code."""
    try:
        code = group.main(args=args, prog_name="mlxd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: Exception) -> int:
    from mlxd.errors import ConfigError, MlxdError

    match error:
        case ConfigError():
            click.echo(str(error), err=True)
            return 2
        case MlxdError():
            fail(str(error))
        case _:
            reason = " ".join(str(error).split())
            fail(f"unexpected {type(error).__name__}: {reason}. {DEBUG}=1 shows where.")
    return 1
