"""`mlxd chat`: talk to a server, in the terminal or from a script."""

import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from mlxd.commands.completion import configured_names
from mlxd.commands.conversation import (
    NO_SERVER,
    NOT_A_TERMINAL,
    USAGE,
    converse,
    find_target,
    is_terminal,
    question_of,
    running,
)
from mlxd.commands.options import config_option, fail
from mlxd.commands.run import with_own

CONNECT_SECONDS = 2.0


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "--model",
    metavar="NAME",
    default="",
    shell_complete=configured_names,
    help="The model to ask; one of the server's.",
)
@click.option("--system", metavar="TEXT", default="", help="System prompt.")
@click.option(
    "--url",
    metavar="URL",
    envvar="MLXD_URL",
    help="Address of the server; without it, the one that the configuration says.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="MLXD_API_KEY",
    help="One of the server's keys; without it, the first one of the configuration.",
)
@config_option
def chat(
    *,
    prompt: str | None,
    model: str,
    system: str,
    url: str | None,
    api_key: str | None,
    config_file: Path | None,
) -> int:
    """Chat with a model. With a PROMPT or a pipe: print the answer and nothing else."""
    target = find_target(url, api_key, config_file)
    if url is None and config_file is None:
        target = running(target)
    if prompt is None and is_terminal(sys.stdin):
        if not is_terminal(sys.stdout):
            fail(NOT_A_TERMINAL)
            return USAGE
        if url is None and not _answers(target.url):
            if click.confirm(f"No server answers at {target.url}. Start one?", default=True):
                return with_own(model or None, "", target.key, config_file=config_file)
            return NO_SERVER
        return converse(target, "", model=model, system=system)
    return converse(target, question_of(prompt) or " ", model=model, system=system)


def _answers(url: str) -> bool:
    """Whether anything listens there."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), CONNECT_SECONDS):
            return True
    except OSError:
        return False
