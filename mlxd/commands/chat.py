"""`mlxd chat`: talk to a server, in the terminal or from a script."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO
from urllib.parse import urlsplit

import click

from mlxd.commands.options import config_option, fail, load

if TYPE_CHECKING:
    from mlxd.config.settings import Settings

USAGE = 2
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
NOT_A_TERMINAL = "stdout is no terminal: give a PROMPT, or pipe text in."
NOTHING_ASKED = "there is nothing to ask: the PROMPT and stdin are empty."


class Target(NamedTuple):
    """The server to talk to."""

    url: str
    key: str


@click.command()
@click.argument("prompt", required=False)
@click.option("--model", metavar="NAME", default="", help="The model to ask; one of the server's.")
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
        target = _running(target)
    if prompt is None and is_terminal(sys.stdin):
        if is_terminal(sys.stdout):
            return _full_screen(target, model, system)
        fail(NOT_A_TERMINAL)
        return USAGE
    question = _question(prompt)
    if not question.strip():
        fail(NOTHING_ASKED)
        return USAGE
    from mlxd.tui.chat.plain_output import run
    from mlxd.tui.client import ServerClient

    return run(lambda: ServerClient(*target), question, model=model, system=system)


def _full_screen(target: Target, model: str, system: str) -> int:
    from mlxd.tui.chat.start import run

    return run(*target, model=model, system=system)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end."""
    return stream is not None and stream.isatty()


def _question(prompt: str | None) -> str:
    """The prompt, and below it what is piped in."""
    piped = ""
    # A process that was started without stdin has None there.
    if sys.stdin is not None and not is_terminal(sys.stdin):
        piped = sys.stdin.buffer.read().decode("utf-8", "replace")
    return "\n\n".join(part for part in (prompt, piped.rstrip("\n")) if part)


def find_target(url: str | None, key: str | None, config_file: Path | None) -> Target:
    """The server to talk to; raises `ConfigError` where only the configuration can tell it.

    A key of the configuration goes to the server of the configuration only.
    """
    from mlxd.errors import ConfigError

    try:
        settings = load(config_file).settings
    except ConfigError:
        if url is None or config_file is not None:
            raise
        return Target(_address(url), key or "")
    own = _configured(settings)
    address = _address(url) if url else own
    keys = settings.server.api_keys
    if key is None and keys and urlsplit(address).netloc == urlsplit(own).netloc:
        key = keys[0]
    return Target(address, key or "")


def _running(target: Target) -> Target:
    """`target` if a server runs there, else the server that this account started last."""
    from mlxd.admin_token import find

    access = None if find(target.url) else find()
    return Target(access.url, target.key) if access else target


def _configured(settings: "Settings") -> str:
    host = ANY_ADDRESS.get(settings.server.host, settings.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def _address(url: str) -> str:
    """The server's root: `localhost:8484` and what other clients call its base URL do too."""
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise click.BadParameter(f'"{url}" is no address of a server.', param_hint="--url")
    return whole.rstrip("/").removesuffix("/v1")
