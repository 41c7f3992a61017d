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
    Wanted,
    converse,
    find_target,
    is_terminal,
    question_of,
    running,
)
from mlxd.commands.options import config_option, fail, load
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
@click.option("--temperature", metavar="N", help="Randomness of answers, 0 to 2.")
@click.option("--max-tokens", metavar="N", help="Tokens of an answer at most.")
@click.option("--top-p", metavar="N", help="Sample from this share of the probability.")
@click.option("--seed", metavar="N", help="The same answer to the same question.")
@click.option("--reasoning", metavar="EFFORT", help="How much to think: none, low, medium, high.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; needs a PROMPT.")
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The JSON Schema that the answer has to fit; needs a PROMPT.",
)
@click.option(
    "--continue",
    "conversation",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[ID]",
    help="Go on with a conversation: the last one, or the one of this id or number.",
)
@click.option("--list", "listed", is_flag=True, help="List the conversations, and end.")
@config_option
def chat(
    *,
    prompt: str | None,
    model: str,
    system: str,
    url: str | None,
    api_key: str | None,
    as_json: bool,
    schema: Path | None,
    conversation: str | None,
    listed: bool,
    config_file: Path | None,
    **settings: str | None,
) -> int:
    """Chat with a model. With a PROMPT or a pipe: print the answer and nothing else."""
    target = find_target(url, api_key, config_file)
    if url is None and config_file is None:
        target = running(target)
    keep = _keeps(config_file)
    if listed:
        return _print_list(target.url, keep=keep, as_json=as_json)
    written = " ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    wanted = Wanted(*(model, system, written, schema, as_json, keep, conversation))
    if prompt is None and is_terminal(sys.stdin):
        if as_json or schema is not None:
            fail("--json and --schema need a PROMPT.")
            return USAGE
        if not is_terminal(sys.stdout):
            fail(NOT_A_TERMINAL)
            return USAGE
        if url is None and not _answers(target.url):
            if click.confirm(f"No server answers at {target.url}. Start one?", default=True):
                return with_own(model or None, "", target.key, config_file=config_file)
            return NO_SERVER
        return converse(target, "", wanted)
    return converse(target, question_of(prompt) or " ", wanted)


def _keeps(config_file: Path | None) -> bool:
    """Whether a list of conversations is kept; also where the configuration is of no use."""
    from mlxd.errors import ConfigError

    try:
        return load(config_file).settings.chat.keep
    except ConfigError:
        return True


def _print_list(url: str, *, keep: bool, as_json: bool) -> int:
    """The conversations with a server, the last one first."""
    import time

    from mlxd.tui.chat.local.kept_chats import KeptChats, default_file, row
    from mlxd.tui.terminal import UNICODE

    chats = KeptChats(default_file() if keep else None).all(url)
    if as_json:
        from mlxd.commands.output.json_forms import EarlierConversation, print_as

        listed = [{name: getattr(chat, name) for name in chat.__struct_fields__} for chat in chats]
        print_as(list[EarlierConversation], listed)
        return 0
    for number, chat in enumerate(chats, start=1):
        click.echo(UNICODE.clean(f"{row(number, chat, time.time())}  {chat.id}"))
    if not chats:
        click.echo("No conversations." if keep else "No list is kept: chat.keep is off.", err=True)
    return 0


def _answers(url: str) -> bool:
    """Whether anything listens there."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), CONNECT_SECONDS):
            return True
    except OSError:
        return False
