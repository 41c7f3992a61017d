"""Writes what is made from the code: `config/mlxd.toml`, pages of `docs`, and for the page at `/`
its routes and `openapi.json`.

Run `python -m docs.generate` after a change of a setting, a constant, a route, an agent or the
command line.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from pydantic import BaseModel

from docs.agents import agents_md
from docs.constants import constants_md
from docs.openapi import openapi_json
from docs.routes import routes_html
from mlxd.cli import cli
from mlxd.commands.output.json_forms import FORMS
from mlxd.config.changes import effect_of
from mlxd.config.problems import plain_keys, sections
from mlxd.config.settings import KeySettings, ModelSettings, Settings
from mlxd.config.toml_writer import KEY_EXAMPLE, MODEL_EXAMPLE, entry, meaning, template

LINE = 96
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "mlxd" / "api" / "page"

INTRODUCTION = """\
# Configuration

One TOML file says everything. `mlxd init` writes one, [`config/mlxd.toml`](../config/mlxd.toml) is
the annotated whole. mlxd reads the file that `--config` names, else `./mlxd.toml`, else `mlxd.toml`
in your configuration folder (`~/.config/mlxd` on Linux, `~/Library/Application Support/mlxd` on
macOS); it reads one file, never several. Without a file it serves the demo model.

A flag beats an environment variable, that beats the file, and the file beats the defaults.
`mlxd config show` prints the effective value of every key and where it came from.

The variable for a key is its path in capitals behind `MLXD_`, with two underscores between tables:
`server.port` is `MLXD_SERVER__PORT`, and `top_p` of the model `qwen3-4b` is
`MLXD_MODELS__QWEN3_4B__TOP_P`. Lists are written with commas or in JSON, tables in JSON. A few
variables are no settings: `MLXD_DEBUG=1` ends unexpected errors in a traceback,
`MLXD_BLAS=reference` keeps the BLAS that MLX was linked with, `MLXD_URL` and `MLXD_API_KEY` say
which server `mlxd chat` talks to, `MLXD_URL` and `MLXD_ADMIN_TOKEN` which one `mlxd top` shows.

A key that is not known, a value of the wrong type or out of range, and settings that contradict
each other end the command with exit code 2 and a line for each problem:

```
mlxd.toml:7: server.prot: unknown key. Did you mean "port"?
mlxd.toml:12: models.qwen.temperature: must be at most 2.0, got 3
```

A server that runs reads it all again for `mlxd reload`, `POST /admin/reload`, and SIGHUP where that
is no terminal that was closed. Nothing changes unless the whole is right; requests that were begun
go on with the settings they began with. The column *changed* says when a key that is another now
has its effect: `now`, when the model is loaded again (`next load`), or after a `restart`. The table
of a model that is new is served at once; one that is gone gets 404 at once, and leaves memory when
its last answer is over. Flags and the environment of the process stay as they were.
"""

MODELS = """\
## `[models.<alias>]`

One table for each model; the alias is the name that requests use. A key that is left out takes its
value from `[defaults]`, or from the model itself.

```toml
[models.qwen3-4b]
source = "mlx-community/Qwen3-4B-Instruct-2507-4bit"
aliases = ["gpt-4o", "claude-*"]
temperature = 0.3
```

A source that begins with `./` or `../` is a folder next to the file.
"""


KEYS = """\
## `[keys.<name>]`

One table for each API key that has a name and limits of its own, besides those of
`server.api_keys`, which weigh 1 and have no limits. The name is what `mlxd top` and `/metrics`
show. How requests share the engine stands in [fairness.md](fairness.md).

```toml
[keys.laptop]
key = "a-long-random-text"
weight = 3.0
```
"""


def configuration_md() -> str:
    """The reference of all keys and commands."""
    parts = [INTRODUCTION, "## Top level\n", _table(Settings, Settings(), plain_keys())]
    for name, section in sections():
        heading = f"## `[{name}]`\n\n{Settings.model_fields[name].description}\n"
        parts += [heading, _table(section, section(), list(section.model_fields))]
    rows = "".join(
        f"| `{name}` | `{entry(name, MODEL_EXAMPLE[name])}` | {effect_of(ModelSettings, name)} "
        f"| {_words(ModelSettings, name)} |\n"
        for name in ModelSettings.model_fields
    )
    parts += [MODELS, f"| key | example | changed | meaning |\n|---|---|---|---|\n{rows}"]
    rows = "".join(
        f"| `{name}` | `{entry(name, shown)}` | {effect_of(KeySettings, name)} "
        f"| {_words(KeySettings, name)} |\n"
        for name, shown in KEY_EXAMPLE.items()
    )
    parts += [
        KEYS,
        f"| key | example | changed | meaning |\n|---|---|---|---|\n{rows}",
        *_commands(),
    ]
    return "\n".join(parts)


def _table(model: type[BaseModel], values: BaseModel, names: list[str]) -> str:
    rows = "".join(
        f"| `{name}` | {_default(getattr(values, name))} | {effect_of(model, name)} "
        f"| {_words(model, name)} |\n"
        for name in names
    )
    return f"| key | default | changed | meaning |\n|---|---|---|---|\n{rows}"


def _default(value: object) -> str:
    return "" if value is None else f"`{entry('', value).removeprefix(' = ')}`"


def _words(model: type[BaseModel], name: str) -> str:
    return meaning(model, name).replace("|", "\\|")


def _commands() -> Iterator[str]:
    """Every command with its options, in words that do not depend on click's own layout."""
    yield "## Commands\n"
    for name, command in commands(cli, "mlxd"):
        names = [name, *(param.human_readable_name for param in _arguments(command))]
        options = [param for param in command.params if isinstance(param, click.Option)]
        rows = [f"- `{_option(option)}`: {option.help}" for option in options]
        yield "\n".join([f"### `{' '.join(names)}`\n", f"{command.help}", *["", *rows, ""]])


def _arguments(command: click.Command) -> list[click.Parameter]:
    return [param for param in command.params if isinstance(param, click.Argument)]


def _option(option: click.Option) -> str:
    return f"{option.opts[0]} {option.metavar or ''}".strip()


JSON_INTRODUCTION = """\
# JSON for scripts

What commands print with `--json`, as JSON Schema. It goes to stdout, what is said to people goes to
stderr; exit codes are the same as without. Fields are only ever added. `mlxd pull` prints an object
a line as it goes on, told apart by `event`; each other command prints one. `mlxd top --json` prints
the server's status ([admin.md](admin.md)), `mlxd prefixes --json` what is kept on the disk.
"""


def json_md() -> str:
    """The schemas of what commands print."""
    parts = [JSON_INTRODUCTION]
    for name, form in FORMS.items():
        parts.append(f"## `{name}`\n\n```json\n{_short_json(msgspec.json.schema(form))}\n```\n")
    return "\n".join(parts)


def _short_json(value: object, indent: str = "") -> str:
    """JSON in which what fits on a line is on one."""
    if isinstance(value, str):
        return json.dumps(" ".join(value.split()), ensure_ascii=False)
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(line) + len(indent) <= LINE:
        return line
    inner = f"{indent}  "
    if isinstance(value, list):
        lines = [inner + _short_json(each, inner) for each in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    lines = [f"{inner}{json.dumps(key)}: {_short_json(each, inner)}" for key, each in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below `group` that does something, with its whole name."""
    for child in group.commands.values():
        if isinstance(child, click.Group):
            if child.invoke_without_command:
                yield f"{name} {child.name}", child
            yield from commands(child, f"{name} {child.name}")
        else:
            yield f"{name} {child.name}", child


if __name__ == "__main__":
    (ROOT / "config" / "mlxd.toml").write_text(template(), encoding="utf-8")
    (ROOT / "docs" / "configuration.md").write_text(configuration_md(), encoding="utf-8")
    (ROOT / "docs" / "agents.md").write_text(agents_md(), encoding="utf-8")
    (ROOT / "docs" / "json.md").write_text(json_md(), encoding="utf-8")
    (ROOT / "docs" / "constants.md").write_text(constants_md(), encoding="utf-8")
    (PAGE / "openapi.json").write_text(openapi_json(), encoding="utf-8")
    index = PAGE / "index.html"
    index.write_text(routes_html(index.read_text(encoding="utf-8")), encoding="utf-8")
