"""`mlxd launch`: a coding agent on this server, without a change to its own configuration."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxd import called
from mlxd.commands.conversation import USAGE, is_terminal
from mlxd.commands.options import config_option, fail

if TYPE_CHECKING:
    from mlxd.launch.agent import Addition, Agent, Command, Endpoint, Places

FAILED = 1
NOT_INSTALLED = 4


@click.command()
@click.argument("name", metavar="[AGENT]", required=False)
@click.option("--model", metavar="NAME", help="The model: one of the server's, or as for run.")
@click.option(
    "--config-only",
    is_flag=True,
    help="Put an entry mlxd into the agent's own file, and start nothing.",
)
@click.option("--print", "printed", is_flag=True, help="Show what would be done, by hand.")
@click.option("--undo", "undone", is_flag=True, help="Take back what was put into its own file.")
@click.option("--list", "listed", is_flag=True, help="List the agents, and which are installed.")
@click.option("--json", "as_json", is_flag=True, help="With --list: a list of objects.")
@click.option("--force", is_flag=True, help="Start it in a window too small for its first prompt.")
@click.option("-y", "--yes", is_flag=True, help="Do without asking what would be asked.")
@click.option("--keep", is_flag=True, help="Let a server that was started for this go on.")
@config_option
@click.argument("arguments", metavar="[-- ARGS]...", nargs=-1, type=click.UNPROCESSED)
def launch(
    *,
    name: str | None,
    model: str | None,
    config_only: bool,
    printed: bool,
    undone: bool,
    listed: bool,
    as_json: bool,
    force: bool,
    yes: bool,
    keep: bool,
    config_file: Path | None,
    arguments: tuple[str, ...],
) -> int:
    """Start a coding AGENT on a model of this server; ARGS are the agent's own.

    A server is started if none runs. Nothing of the agent's own configuration is changed, and its
    key goes to it in the environment.
    """
    if as_json and not listed:
        raise click.UsageError("--json goes with --list.")
    if undone and (config_only or printed):
        raise click.UsageError("--undo goes alone.")
    if listed:
        return _list(as_json=as_json)
    agent = _agent(name)
    if undone:
        return _undo(agent)
    if printed:
        return _print(agent, model, config_file, config_only=config_only)
    if agent.start is None and not config_only:
        fail(f"{agent.title} is not started here, only configured: --config-only, or --print.")
        return USAGE
    program = shutil.which(agent.program)
    if program is None and not config_only:
        fail(f"{agent.title} is not installed: there is no {agent.program}. {agent.install}")
        return NOT_INSTALLED
    from mlxd.commands.agent_endpoint import endpoint

    with endpoint(model, config_file, yes=yes, keep=keep) as found:
        if isinstance(found, int):
            return found
        to, own = found
        if config_only:
            return _configure(agent, to)
        if not _fits(agent, to, force=force) or not _ready(agent, to, yes=yes):
            return FAILED
        return _start(agent, to, [str(program), *arguments], wait=own)


def _agent(name: str | None) -> "Agent":
    """The agent of this name; raises `click.UsageError`."""
    from mlxd.launch.agents import AGENTS, agent_named

    names = [agent.name for agent in AGENTS]
    if not name:
        raise click.UsageError(f"Which agent? {', '.join(names)}.")
    agent = agent_named(name)
    if agent is None:
        from mlxd.config.problems import did_you_mean

        raise click.UsageError(f'There is no agent "{name}". {did_you_mean(name, names)}')
    return agent


def _places(agent: "Agent") -> "Places":
    from mlxd.admin_token import folder
    from mlxd.launch.agent import Places

    own = folder() / "launch" / agent.name
    return Places(Path.home(), own, os.environ, mac=sys.platform == "darwin")


def _list(*, as_json: bool) -> int:
    from mlxd.commands.output.json_forms import LaunchableAgent, print_as
    from mlxd.launch.agents import AGENTS

    rows = [
        {
            "name": agent.name,
            "title": agent.title,
            "program": shutil.which(agent.program),
            "install": agent.install,
            "tested": agent.version or None,
            "first_prompt": agent.first_prompt or None,
            "starts": agent.start is not None,
        }
        for agent in AGENTS
    ]
    if as_json:
        print_as(list[LaunchableAgent], rows)
        return 0
    for row in rows:
        here = "installed" if row["program"] else row["install"]
        click.echo(f"{row['name']:<10} {row['title']:<14} {here}")
    return 0


def _print(
    agent: "Agent", model: str | None, config_file: Path | None, *, config_only: bool
) -> int:
    from mlxd.commands.agent_endpoint import endpoint_on_paper
    from mlxd.launch.by_hand import addition_by_hand, launch_by_hand

    to = endpoint_on_paper(model, config_file)
    if isinstance(to, int):
        return to
    shown = addition_by_hand if config_only else launch_by_hand
    click.echo(shown(agent, to, _places(agent)), nl=False)
    return 0


def _fits(agent: "Agent", to: "Endpoint", *, force: bool) -> bool:
    """Whether the agent's first prompt fits into the window; says so if not."""
    if to.window >= agent.first_prompt or force:
        return True
    smaller = f" ({agent.smaller})" if agent.smaller else ""
    fail(
        f"{to.model} has a window of {to.window} tokens, and the first prompt of {agent.title} "
        f"takes about {agent.first_prompt}{smaller}. Give the model a larger context_length, "
        "or use --force."
    )
    return False


def _configure(agent: "Agent", to: "Endpoint") -> int:
    from mlxd.launch.by_hand import command_by_hand
    from mlxd.launch.edit import LeftAlone
    from mlxd.launch.user_file import add

    places = _places(agent)
    addition = agent.addition(to.shown, places)
    if not shutil.which(agent.program):
        fail(f"{agent.title} does not seem to be installed: {agent.install}")
    try:
        if addition.edit is None:
            raise LeftAlone("has no one place for an entry, or has comments")
        changed = add(addition.file, addition.edit, places.own)
    except LeftAlone as reason:
        return _left_alone(addition, f"{reason}", places)
    click.echo(f"{addition.file}: {'added mlxd' if changed else 'has mlxd already'}.", err=True)
    undo = f"{called()} launch {agent.name} --undo"
    click.echo(f"Its defaults are as they were. `{undo}` takes it back. Start it with:", err=True)
    click.echo(command_by_hand(addition.use, places), nl=False)
    return 0


def _left_alone(addition: "Addition", reason: str, places: "Places") -> int:
    """Show what could not be written."""
    from mlxd.launch.by_hand import command_by_hand

    fail(f"{addition.file} {reason}. It was not touched; this is what belongs there:")
    click.echo(addition.block)
    click.echo(command_by_hand(addition.use, places), nl=False)
    # For a file that is never written this is all there is to do.
    return 0 if addition.edit is None else FAILED


def _undo(agent: "Agent") -> int:
    from mlxd.launch.agent import Endpoint
    from mlxd.launch.edit import LeftAlone
    from mlxd.launch.user_file import undo

    places = _places(agent)
    # An entry is found by its name, whatever it says.
    nowhere = Endpoint("", "", 1)
    addition = agent.addition(nowhere, places)
    for file in agent.start(nowhere, places).files if agent.start else ():
        # Some have a key in them.
        with suppress(OSError):
            file.unlink()
    try:
        undone = undo(addition.edit, places.own) if addition.edit else None
    except LeftAlone as reason:
        fail(f"{addition.file} {reason}. It was not touched: take out the entry mlxd by hand.")
        return FAILED
    none = f"There is nothing of mlxd in the files of {agent.title}."
    click.echo(f"Took mlxd out of {undone}." if undone else none)
    return 0


def _ready(agent: "Agent", to: "Endpoint", *, yes: bool) -> bool:
    """Whether what the agent reads is there, after writing it."""
    from mlxd.launch.edit import LeftAlone
    from mlxd.launch.user_file import write

    places = _places(agent)
    file = places.own
    try:
        for file, text in agent.start(to, places).files.items() if agent.start else ():
            write(file, text)
        addition = agent.addition(to.shown, places)
        file = addition.file
        return not agent.starts_from_file or _entered(agent, addition, places.own, yes=yes)
    except LeftAlone as reason:
        fail(f"{file} {reason}. {agent.title} was not started.")
        return False


def _entered(agent: "Agent", addition: "Addition", own: Path, *, yes: bool) -> bool:
    """Whether the agent's file has our entry now."""
    from mlxd.launch.edit import HasEntry
    from mlxd.launch.user_file import add, has_entry

    assert addition.edit is not None
    asks = agent.asks_first and not yes and not has_entry(addition.file, addition.edit)
    if asks and not _allowed(agent, addition):
        return False
    try:
        add(addition.file, addition.edit, own)
    except HasEntry as reason:
        fail(f"{addition.file} {reason}. It is used as it is.")
    return True


def _allowed(agent: "Agent", addition: "Addition") -> bool:
    """Whether the user's own file may be changed."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        fail(f"{agent.title} needs an entry mlxd in {addition.file}: --yes puts it there.")
        return False
    question = f"{agent.title} needs an entry mlxd in {addition.file}. Put it there?"
    return click.confirm(question, default=True, err=True)


def _start(agent: "Agent", to: "Endpoint", call: list[str], *, wait: bool) -> int:
    """Become the agent, or wait for it where there is a server to stop behind it."""
    from mlxd.launch.agent import environment_for

    assert agent.start is not None
    command: Command = agent.start(to, _places(agent))
    program, *arguments = call
    words = [*command.words, *arguments]
    variables = environment_for(command, to, os.environ)
    sys.stdout.flush()
    try:
        if not wait:
            # Python ignores it, and what is ignored stays so in the program that takes over.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execve(program, words, variables)
        # Ctrl-C is for the agent, which has it from the terminal too.
        signal.signal(signal.SIGINT, lambda *_: None)
        code = subprocess.run(words, executable=program, env=variables, check=False).returncode
    except OSError as error:
        fail(f"{program} can't be started: {error.strerror}.")
        return FAILED
    return code if code >= 0 else 128 - code
