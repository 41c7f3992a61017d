"""`mlxd models show` and `verify`: all about one model, and whether its files are whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxd import called
from mlxd.commands.completion import model_names
from mlxd.commands.options import (
    SOURCE_HELP,
    NamedModel,
    config_option,
    fail,
    find_named,
    load,
)
from mlxd.commands.output.meter import Meter

if TYPE_CHECKING:
    from mlxd.commands.local_models import LocalModel
    from mlxd.commands.output.json_forms import FileEntry, ModelDetails
    from mlxd.config.settings import ModelSettings, Settings
    from mlxd.engine.model_files.integrity import FileVerdict
    from mlxd.status import AnswerFormat

NOT_HERE = NOT_WHOLE = 1


@click.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@config_option
def show(*, name: str, as_json: bool, config_file: Path | None) -> int:
    """Show all about one model: files, window, sampling, how its tools and thinking are read."""
    from mlxd.commands.output.json_forms import print_json

    settings = load(config_file).settings
    details = _details(settings, named_model(name, settings))
    if as_json:
        print_json(details)
    else:
        _print(details)
    return 0 if details.folder else NOT_HERE


@click.command()
@click.argument("name", metavar="MODEL", shell_complete=model_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
@config_option
def verify(*, name: str, as_json: bool, config_file: Path | None) -> int:
    """Check that a model is whole, and that its files are what the hub gave, by their hashes."""
    from mlxd.commands.output.json_forms import Verification, VerifiedFile, print_json
    from mlxd.engine.model_files.library import locate

    settings = load(config_file).settings
    named = named_model(name, settings)
    folder = locate(named.source)
    if folder is None:
        fail(f"{named.source} is not here; `{called()} pull {named.source}` brings it.")
        return NOT_HERE
    verdicts = _verdicts(named.source, folder)
    wrong = [each for each in verdicts if each.state in ("damaged", "missing")]
    problem = _state(settings, named).reason
    found = Verification(
        source=named.source,
        folder=str(folder),
        ok=not (wrong or problem),
        problem=problem,
        files=[VerifiedFile(each.name, each.state) for each in verdicts],
    )
    if as_json:
        print_json(found)
        return 0 if found.ok else NOT_WHOLE
    for each in verdicts:
        click.echo(f"{each.state:<8} {each.name}")
    if unknown := sum(each.state == "unknown" for each in verdicts):
        click.echo(f"Nobody gave hashes of {unknown} of the {len(verdicts)} files.")
    if problem:
        fail(f"{named.source} can't be used: {problem}.")
    for each in wrong:
        remedy = f"remove {each.path}, then {called()} pull {named.source}"
        fail(f"{each.name} is {each.state}: {remedy}")
    return 0 if found.ok else NOT_WHOLE


def _verdicts(source: str, folder: Path) -> "list[FileVerdict]":
    from mlxd.engine.model_files.integrity import bytes_to_judge, judged

    total, done = bytes_to_judge(folder), 0
    with Meter({"check": f"reading {source}"}) as meter:

        def report(read: int) -> None:
            nonlocal done
            done += read
            meter.show("check", done, total)

        return list(judged(folder, report))


def _state(settings: "Settings", named: NamedModel) -> "LocalModel":
    from mlxd.commands.local_models import find_model

    return find_model(named.alias, _settings_of(settings, named))


def _settings_of(settings: "Settings", named: NamedModel) -> "ModelSettings":
    from mlxd.config.settings import ModelSettings

    own = settings.models.get(named.alias) if named.configured else None
    return own or ModelSettings(source=named.source)


def named_model(name: str, settings: "Settings") -> NamedModel:
    """The model that was named; raises `UsageError`."""
    found = find_named(name, settings)
    if found is None:
        raise click.UsageError(
            f'"{name}" is neither a source nor a configured alias. {SOURCE_HELP}'
        )
    return found


def _details(settings: "Settings", named: NamedModel) -> "ModelDetails":
    import msgspec

    from mlxd.commands.output.json_forms import ModelDetails, SamplingEntry, text_or_none
    from mlxd.commands.sampling_defaults import sampling_defaults
    from mlxd.config.catalogue import catalogue
    from mlxd.config.machine import model_memory_bytes
    from mlxd.engine.model_files.library import locate
    from mlxd.engine.model_files.windows import window_of

    model, state = _settings_of(settings, named), _state(settings, named)
    folder, listed = locate(named.source), catalogue().by_source(named.source)
    memory = settings.engine.memory_bytes or model_memory_bytes()
    window = window_of(folder) if folder else listed.window if listed else 0
    details = ModelDetails(
        source=named.source,
        aliases=[named.alias, *model.aliases] if named.configured else [],
        state=state.reason or "ready",
        what=listed.what if listed else "",
        revision=folder.name if folder and folder.parent.name == "snapshots" else None,
        folder=text_or_none(folder),
        bytes=state.bytes if folder or not listed else listed.bytes,
        window=min(window, model.context_length or window) or None,
        window_here=listed.window_in(memory) if listed else None,
        model_type=_model_type(folder),
        files=list(_files(folder)),
        sampling=[
            SamplingEntry(each.name, each.value, each.origin)
            for each in sampling_defaults(model, settings.defaults)
        ],
    )
    if state.reason or folder is None:
        return details
    answers = _answers(settings, named)
    if answers is None:
        return msgspec.structs.replace(details, problem="its tokenizer can't be read")
    return msgspec.structs.replace(
        details,
        tools=answers.tools,
        tool_format=answers.tool_format,
        thinking=list(answers.reasoning_tags),
        template=list(answers.features),
        problem=answers.problem,
    )


def _answers(settings: "Settings", named: NamedModel) -> "AnswerFormat | None":
    """How its answers will be read, found out by the engine's own code."""
    from mlxd.commands.engine_probe import probe
    from mlxd.config.engine_specs import model_specs
    from mlxd.engine.protocol import ModelChanged

    models = {named.alias: _settings_of(settings, named)}
    alone = settings.model_copy(update={"models": models})
    reports = list(probe([(model_specs(alone)[0], False)]))
    last = reports[-1]
    return last.answers if isinstance(last, ModelChanged) else None


def _model_type(folder: Path | None) -> str | None:
    from mlxd.engine.model_files.verification import Unusable, read_object

    if folder is None:
        return None
    try:
        return str(read_object(folder / "config.json").get("model_type"))
    except (OSError, Unusable):
        return None


def _files(folder: Path | None) -> "Iterator[FileEntry]":
    from mlxd.commands.output.json_forms import FileEntry

    for path in sorted(folder.rglob("*")) if folder else ():
        if path.is_file():
            yield FileEntry(path.relative_to(folder or path).as_posix(), path.stat().st_size)


def _print(details: "ModelDetails") -> None:
    from mlxd.config.catalogue import gigabytes

    sampling = [f"{each.name} {each.value:g} ({each.origin})" for each in details.sampling]
    tools = {"template": f"read as {details.tool_format}", "words": "described in words"}
    here = details.window_here
    fits = "" if here is None else f", {here:,} fit this machine" if here else ", too large here"
    rows: dict[str, Any] = {
        "source": details.source,
        "aliases": ", ".join(details.aliases),
        "state": details.state,
        "for": details.what,
        "revision": details.revision,
        "folder": details.folder,
        "weights": gigabytes(details.bytes) if details.bytes is not None else None,
        "window": f"{details.window:,} tokens{fits}" if details.window else None,
        "type": details.model_type,
        "tools": tools.get(details.tools or ""),
        "thinking": None if details.thinking is None else " ".join(details.thinking) or "none",
        "template": ", ".join(details.template or ()),
        "sampling": ", ".join(sampling),
        "problem": details.problem,
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<9} {value}")
    if details.files:
        click.echo("files")
    for file in details.files:
        click.echo(f"  {file.bytes / 1e6:>10,.1f} MB  {file.name}")
