"""The annotated file and the tree it is made from."""

import re
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from mlxd.config.load import load
from mlxd.config.settings import (
    AdminSettings,
    DefaultSettings,
    EngineSettings,
    LogSettings,
    ModelSettings,
    SamplingSettings,
    ServerSettings,
    Settings,
)
from mlxd.config.toml_writer import MODEL_EXAMPLE, template
from mlxd.config.value_types import ToolFormat
from mlxd.engine.notations.table import NOTATIONS
from mlxd.messages import Sampling
from tests.environment import DEFAULT_FILE, from_text


def test_without_any_source_the_defaults_hold() -> None:
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert set(loaded.origins.values()) == {"default"}


def test_the_shipped_file_says_what_the_defaults_say() -> None:
    loaded = load(DEFAULT_FILE, {})
    assert loaded.settings == Settings()
    assert loaded.file == DEFAULT_FILE


def test_the_shipped_file_is_made_from_the_tree() -> None:
    hint = "run `python -m docs.generate`"
    assert DEFAULT_FILE.read_text(encoding="utf-8") == template(), hint


def test_the_file_sets_only_what_was_chosen_so_that_later_defaults_arrive() -> None:
    assert set(load(DEFAULT_FILE, {}).origins.values()) == {"default"}
    set_here = from_text(template({"a": {"source": "demo"}})).origins
    assert {key for key, origin in set_here.items() if origin != "default"} == {"models.a.source"}


def test_every_key_stands_in_the_file_with_its_default() -> None:
    enabled = re.sub(r"(?m)^#(?! )", "", template())
    shown = from_text(enabled)
    assert {key for key, origin in shown.origins.items() if origin == "default"} == set()
    for table in ("server", "engine", "log", "conversations"):
        written, usual = getattr(shown.settings, table), getattr(Settings(), table)
        for name in type(usual).model_fields:
            value = getattr(usual, name)
            assert value is None or getattr(written, name) == value


def test_a_template_for_models_says_what_a_tree_with_them_says() -> None:
    models: dict[str, dict[str, object]] = {
        "a.b": {"source": "demo"},
        "c": {"source": "owner/name", "aliases": ["gpt-4o"]},
    }
    text = template(models, '# More:\n#[models.d]\n#source = "demo"')
    expected = {alias: ModelSettings.model_validate(values) for alias, values in models.items()}
    assert from_text(text).settings == Settings(models=expected)


def test_the_disabled_lines_of_the_shipped_file_are_valid_settings() -> None:
    enabled = re.sub(r"(?m)^#(?! )", "", template())
    assert from_text(enabled).settings.models["demo"] == ModelSettings.model_validate(MODEL_EXAMPLE)


def test_the_example_of_a_model_shows_every_key() -> None:
    assert list(MODEL_EXAMPLE) == list(ModelSettings.model_fields)


def test_every_key_about_sampling_is_a_parameter_that_a_model_leaves_open() -> None:
    assert set(SamplingSettings.model_fields) <= set(Sampling.__struct_fields__)
    for name in SamplingSettings.model_fields:
        assert getattr(DefaultSettings(), name) is not None
        assert getattr(ModelSettings(source="demo"), name) is None


def test_a_tool_format_can_be_named_if_it_can_be_read() -> None:
    assert set(get_args(ToolFormat)) == set(NOTATIONS)


def test_every_key_and_table_has_a_docstring() -> None:
    tables: list[type[BaseModel]] = [
        Settings,
        ServerSettings,
        DefaultSettings,
        ModelSettings,
        EngineSettings,
        LogSettings,
    ]
    for table in tables:
        for name, field in table.model_fields.items():
            assert field.description, f"{table.__name__}.{name}"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1
    with pytest.raises(ValidationError):
        Settings().log = Settings().log


def test_settings_keep_api_keys_out_of_their_representation() -> None:
    assert "hush" not in repr(Settings(server=ServerSettings(api_keys=("hush",))))
    assert "hush" not in repr(Settings(admin=AdminSettings(token="hush-" * 4)))
