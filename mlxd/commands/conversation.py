"""A conversation: with which server it is, and on the whole terminal or as one answer."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO
from urllib.parse import urlsplit

import click

from mlxd.commands.options import fail, load

if TYPE_CHECKING:
    from mlxd.config.settings import Settings

USAGE = 2
NO_SERVER = 3
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
NOT_A_TERMINAL = "stdout is no terminal: give a PROMPT, or pipe text in."
NOTHING_ASKED = "there is nothing to ask: the PROMPT and stdin are empty."


class Target(NamedTuple):
    """The server to talk to."""

    url: str
    key: str


class Wanted(NamedTuple):
    """What a person asks for on the command line, as it is written there.

    `settings` are of answers, `conversation` is one to go on with.
    """

    model: str = ""
    system: str = ""
    settings: str = ""
    schema: Path | None = None
    as_json: bool = False
    keep: bool = True
    conversation: str | None = None


NOTHING_SPECIAL = Wanted()


def converse(target: Target, question: str, wanted: Wanted = NOTHING_SPECIAL) -> int:
    """The answer to a question on stdout; without one, a chat on the whole terminal."""
    from mlxd.tui.chat.local.answer_settings import AnswerSettings, SettingError

    try:
        settings = AnswerSettings()
        settings = settings.changed(wanted.settings) if wanted.settings else settings
    except SettingError as error:
        fail(str(error))
        return USAGE
    if not question:
        from mlxd.tui.chat.start import Beginning
        from mlxd.tui.chat.start import run as run_on_terminal

        return run_on_terminal(
            *target,
            Beginning(
                *(wanted.model, wanted.system, settings),
                keep=wanted.keep,
                conversation=wanted.conversation,
            ),
        )
    if not question.strip():
        fail(NOTHING_ASKED)
        return USAGE
    from mlxd.tui.chat.plain_output import Request, run
    from mlxd.tui.client import ServerClient

    schema = None
    if wanted.schema is not None:
        schema = _schema(wanted.schema)
        if schema is None:
            return USAGE
    request = Request(
        *(question, wanted.model, wanted.system, settings), schema=schema, as_json=wanted.as_json
    )
    return run(lambda: ServerClient(*target), request)


def _schema(file: Path) -> dict[str, object] | None:
    """The JSON Schema in a file; None where there is none, which is said."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}.")
        return None
    except (ValueError, RecursionError) as error:
        fail(f"{file} is no JSON: {error}.")
        return None
    if not isinstance(found, dict):
        fail(f"{file} is no JSON Schema: it has to be an object.")
        return None
    return found


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end."""
    return stream is not None and stream.isatty()


def question_of(prompt: str | None) -> str:
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
    from mlxd.config.api_keys import all_keys
    from mlxd.errors import ConfigError

    try:
        settings = load(config_file).settings
    except ConfigError:
        if url is None or config_file is not None:
            raise
        return Target(_address(url), key or "")
    own = _configured(settings)
    address = _address(url) if url else own
    keys = all_keys(settings)
    if key is None and keys and urlsplit(address).netloc == urlsplit(own).netloc:
        key = keys[0]
    return Target(address, key or "")


def running(target: Target) -> Target:
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
