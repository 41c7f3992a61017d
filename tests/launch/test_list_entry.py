"""An entry in somebody's TOML or YAML: comments and all other lines stay."""

import tomllib
from typing import Any

import pytest
import tomli_w
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxd.launch.edit import LeftAlone
from mlxd.launch.list_entry import TomlEntry, YamlEntry

TOML = TomlEntry("providers", {"name": "mlxd", "base_url": "http://here/v1"})
YAML = YamlEntry("model_id", {"model_id": "mlxd/small", "supports_tools": True})

WORDS = st.text("ab#[]-= \n'", max_size=8)
SCALARS = st.booleans() | st.integers(-9, 9) | WORDS
TABLES = st.dictionaries(st.text("abc", min_size=1), SCALARS, max_size=3)
COMMENT = st.sampled_from(["", "# mine\n", "\n\n# [[providers]]\n", "#"])


@settings(max_examples=30)
@given(TABLES, st.lists(TABLES, max_size=2), st.dictionaries(WORDS, TABLES, max_size=2), COMMENT)
def test_a_table_is_added_and_taken_out_without_a_trace(
    plain: dict[str, Any], ours: list[Any], tables: dict[str, Any], comment: str
) -> None:
    text = tomli_w.dumps({**plain, "providers": ours, **tables}) + comment
    new = TOML.put(text)
    before, after = tomllib.loads(text), tomllib.loads(new)
    assert TOML.value in after["providers"]
    after["providers"].remove(TOML.value)
    assert after == before
    assert TOML.drop(new, text) == text
    assert TOML.drop("# first\n" + new, text) == "# first\n" + text


@settings(max_examples=30)
@given(st.lists(TABLES, max_size=3), st.sampled_from([0, 2]), COMMENT)
def test_an_item_is_added_and_taken_out_without_a_trace(
    items: list[Any], indent: int, comment: str
) -> None:
    text = yaml.safe_dump(items) if items else ""
    text = "".join(" " * indent + line for line in text.splitlines(keepends=True)) + comment
    new = YAML.put(text)
    assert yaml.safe_load(new) == [*items, YAML.value]
    assert YAML.drop(new, text) == text
    assert YAML.drop("# first\n" + new, text) == "# first\n" + text


@pytest.mark.parametrize("array", ["[]", "[ ]", '[{ name = "x" }]', '[\n  { name = "x" },\n]'])
def test_an_array_on_its_own_lines_takes_one_more(array: str) -> None:
    text = f"# mine\nproviders = {array}\n\n[env]\n"
    new = TOML.put(text)
    assert TOML.value in tomllib.loads(new)["providers"]
    assert TOML.drop(new, text) == text


def test_what_was_written_around_an_entry_since_stays() -> None:
    text = "[[providers]]\nname = 'a'\n"
    more = "\n# about the next one\n[[providers]]\nname = 'b'\n"
    assert TOML.drop(TOML.put(text) + more, text) == text + more
    changed = TOML.put(text).replace("here", "there") + "# mine\n"
    assert TOML.drop(changed, text) == text + "# mine\n"


def test_another_model_of_ours_is_the_same_entry() -> None:
    assert YAML.entry("- model_id: mlxd/other\n") == {"model_id": "mlxd/other"}
    assert YAML.entry("- model_id: mlxdother\n") is None


@pytest.mark.parametrize("text", ["providers = 3", "[providers]\nx = 1", "a = ", "a = 1\na = 2"])
def test_toml_that_is_not_understood_is_left_alone(text: str) -> None:
    with pytest.raises(LeftAlone):
        TOML.put(text)


@pytest.mark.parametrize(
    "text",
    ["a: 1", "[{model_id: a}]", "- a: [", "- a: 1\n---\n- b: 1", "- a\n...\n", "- a: !!python/x 1"],
)
def test_yaml_that_is_not_understood_is_left_alone(text: str) -> None:
    with pytest.raises(LeftAlone):
        YAML.put(text)
