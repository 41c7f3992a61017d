"""`mlxd completion`, and what can stand where a model, or a key of the configuration, is asked for.

A shell waits for every letter's worth of this: it reads files, and imports nothing that takes long.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
CONFIG = Path(__file__).parent.parent / "config"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    """Print the script that lets a shell complete commands, models and keys.

    In ~/.bashrc and ~/.zshrc: eval "$(mlxd completion bash)", or zsh. In fish's config.fish:
    mlxd completion fish | source.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows its own shells"
    click.echo(kind(context.find_root().command, {}, "mlxd", "_MLXD_COMPLETE").source())
    return 0


def model_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Aliases, models that are here, and the short names of the catalogue."""
    names = dict.fromkeys([*aliases(context), *_here(), *_short_names()])
    return [name for name in names if name.startswith(incomplete)]


def configured_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Aliases alone: what a server can be asked for."""
    return [name for name in aliases(context) if name.startswith(incomplete)]


def config_keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys of the configuration, with their tables."""
    keys = [*_keys("Settings", _tables()), *_model_keys(context)]
    return [key for key in keys if key.startswith(incomplete)]


def aliases(context: click.Context) -> list[str]:
    """Names of the models in the configuration file."""
    from mlxd.config.places import find

    file = context.params.get("config_file") or find()
    try:
        models = tomllib.loads(file.read_text("utf-8"))["models"] if file else {}
        return [
            name
            for alias, model in models.items()
            for name in (alias, *model.get("aliases", ()))
            if "*" not in name
        ]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        # Whatever is wrong with the file is said by the command itself.
        return []


def _here() -> list[str]:
    from mlxd.engine.model_files.cache import cached_sources

    return ["demo", *map(str, cached_sources())]


def _short_names() -> Iterator[str]:
    listed = tomllib.loads((CONFIG / "catalogue.toml").read_text("utf-8"))
    return (model["name"] for model in listed["models"])


def _model_keys(context: click.Context) -> Iterator[str]:
    own = list(_keys("ModelSettings", _tables()))
    for alias in aliases(context):
        yield from (f"models.{alias}.{key}" for key in own)


def _tables() -> dict[str, ast.ClassDef]:
    """The classes of the settings, from their source: importing it takes half a second."""
    tree = ast.parse((CONFIG / "settings.py").read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _keys(name: str, tables: dict[str, ast.ClassDef]) -> Iterator[str]:
    for base in tables[name].bases:
        if isinstance(base, ast.Name) and base.id in tables:
            yield from _keys(base.id, tables)
    for node in tables[name].body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=key), annotation=ast.Name(id=inner)) if (
                inner in tables
            ):
                yield from (f"{key}.{below}" for below in _keys(inner, tables))
            case ast.AnnAssign(annotation=ast.Subscript(value=ast.Name(id="ClassVar"))):
                continue
            case ast.AnnAssign(target=ast.Name(id=key)) if key not in ("models", "keys"):
                yield key
