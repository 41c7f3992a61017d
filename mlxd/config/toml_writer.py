"""Writing: the annotated TOML file, made from `mlxd.config.settings` and its docstrings."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlxd.config.problems import dotted, plain_keys
from mlxd.config.settings import DefaultSettings, KeySettings, ModelSettings, Settings

INTRODUCTION = """\
Configuration of mlxd: every key, right behind a #, with its default value, or with an example where
it has none. Take the # off those that shall differ: the others follow the defaults of the version
that is installed. Flags beat MLXD_* environment variables (MLXD_SERVER__PORT=9000), and those beat
this file. It is looked for as ./mlxd.toml, then in your configuration folder; `--config` names
another. `mlxd config show` prints what is in effect, `mlxd doctor` checks it.
"""


def example(field: FieldInfo) -> object:
    """A value that shows the form of a key which has no default, or one for each model."""
    assert field.examples, "a key without a default has an example"
    return field.examples[0]


KEY_EXAMPLE = {name: example(field) for name, field in KeySettings.model_fields.items()}
"""The same of a `[keys.<name>]` table."""
MODEL_EXAMPLE = {name: example(field) for name, field in ModelSettings.model_fields.items()}
"""Every key of a `[models.<alias>]` table with a value that shows its form."""


def template(
    models: Mapping[str, Mapping[str, object]] | None = None,
    more: str = "",
    remarks: Mapping[str, str] | None = None,
) -> str:
    """An annotated file that sets `models`, and nothing else.

    Without `models` an example stands for them, disabled. `more` is TOML about further models, all
    of it disabled or comments; `remarks` are about this machine, for the tables of these names.
    """
    plain = plain_keys()
    blocks = [prose(INTRODUCTION), *_keys(Settings, Settings(), plain)]
    for name, field in Settings.model_fields.items():
        if name == "models":
            blocks += [prose(field.description), *_models(models or {}), more.strip()]
        elif name == "keys":
            lines = [
                f"{prose(meaning(KeySettings, key))}\n{entry(key, KEY_EXAMPLE[key])}"
                for key in KEY_EXAMPLE
            ]
            blocks += [prose(field.description), disabled("\n".join(["[keys.laptop]", *lines]))]
        elif name not in plain:
            values = getattr(Settings(), name)
            first, *others = _keys(type(values), values, list(type(values).model_fields))
            remark = prose((remarks or {}).get(name))
            blocks += [f"{prose(field.description)}\n[{name}]\n{first}", *others, remark]
    return "\n\n".join(filter(None, blocks)) + "\n"


def meaning(table: type[BaseModel], name: str) -> str:
    """A key's docstring, with the values it may have where the docstring does not name them."""
    field = table.model_fields[name]
    text = " ".join((field.description or "").split())
    if table is ModelSettings and name in DefaultSettings.model_fields:
        text = "As in `[defaults]`."
    choices = [str(choice) for choice in _choices(field.annotation)]
    named = all(re.search(rf"\b{choice}\b", text) for choice in choices)
    return text if named else f"{text} One of: {', '.join(choices)}."


def _choices(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))


def disabled(text: str) -> str:
    """TOML as comments, which differ from prose in having no space behind the #."""
    return "\n".join(line if line.startswith("#") else f"#{line}" for line in text.splitlines())


def entry(name: str, value: object) -> str:
    """`name = value` in TOML; a table becomes one line a key, a list stays on one line."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}.{entry(key, item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"{name} = [{', '.join(map(_value, value))}]"
    return f"{name} = {_value(value)}"


def _value(value: object) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _keys(table: type[BaseModel], values: BaseModel, names: Sequence[str]) -> Iterator[str]:
    """Each key with its docstring, disabled: what is written stays when a default changes."""
    for name in names:
        value = getattr(values, name)
        shown = example(table.model_fields[name]) if value is None else value
        yield f"{prose(meaning(table, name))}\n{disabled(entry(name, shown))}"


def _models(models: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for alias, values in models.items():
        yield f"[{dotted(('models', alias))}]\n{_model(values)}"
    if not models:
        yield disabled(f"[models.demo]\n{_model(MODEL_EXAMPLE)}")


def _model(values: Mapping[str, object]) -> str:
    """The keys of one model: those in `values`, and the others as disabled examples."""
    lines = []
    for name, shown in MODEL_EXAMPLE.items():
        written = entry(name, values.get(name, shown))
        lines += [
            prose(meaning(ModelSettings, name)),
            written if name in values else disabled(written),
        ]
    return "\n".join(lines)


def prose(text: str | None) -> str:
    """Text as a comment of lines that are not too long."""
    return textwrap.fill(text or "", 100, initial_indent="# ", subsequent_indent="# ")
