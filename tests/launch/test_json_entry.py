"""An entry in somebody's JSON: every other byte stays, whatever the text looks like."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxd.launch.edit import LeftAlone
from mlxd.launch.json_entry import JsonEntry

ENTRY = JsonEntry(("provider", "mlxd"), {"url": "http://here", "models": [{"id": "small"}]})
ITEM = JsonEntry(("providers", "openai"), {"name": "mlxd", "id": "small"}, item=True)
ALONE = JsonEntry((), {"name": "mlxd"}, item=True)

TEXTS = st.text(max_size=8) | st.sampled_from(['a"b', "{", "]", "\\", "é", "#", "//"])
NAMES = TEXTS | st.sampled_from(["provider", "providers", "openai"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def written(draw: st.DrawFn) -> str:
    """A JSON object, laid out in one of the ways of people and programs."""
    value = draw(st.dictionaries(NAMES, VALUES, max_size=4))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]))
    indent = draw(st.sampled_from([None, 1, 2, 4, "\t"]))
    separators = (separators[0].rstrip(), separators[1]) if indent else separators
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    end = draw(st.sampled_from(["", "\n", "\r\n", "  \n\n"]))
    text = text.replace("\n", "\r\n") if "\r" in end else text
    return draw(st.sampled_from(["", "\n", " "])) + text + end


def holder(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value[key]
    return value


@settings(max_examples=50)
@given(written(), st.sampled_from([ENTRY, ITEM]))
def test_an_entry_is_added_and_taken_out_without_a_trace(text: str, edit: JsonEntry) -> None:
    try:
        new = edit.put(text)
    except LeftAlone:
        # Something else is where the entry would have to be.
        return
    assert edit.entry(text) is None
    assert edit.entry(new) == edit.value
    found = json.loads(new)
    inside = holder(found, *edit.path[: None if edit.item else -1])
    inside.remove(edit.value) if edit.item else inside.pop(edit.path[-1])
    assert edit.drop(new, text) == text
    # What is added at the beginning by hand stays, too.
    by_hand = [each.replace("{", '{"zz": 1, ', 1) for each in (text, new)]
    if json.loads(text):
        assert edit.drop(by_hand[1], text) == by_hand[0]


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("{}\n", '{"provider": {"mlxd": {"a": 1}}}\n'),
        ('{"x":1,"y":2}', '{"x":1,"y":2,"provider": {"mlxd": {"a": 1}}}'),
        (
            '{\n    "provider": {\n        "other": {}\n    }\n}',
            '{\n    "provider": {\n        "other": {},\n        "mlxd": {\n            "a": 1\n'
            "        }\n    }\n}",
        ),
        (
            '{\n\t"provider": {}\n}\n',
            '{\n\t"provider": {\n\t\t"mlxd": {\n\t\t\t"a": 1\n\t\t}\n\t}\n}\n',
        ),
        ("", '{\n  "provider": {\n    "mlxd": {\n      "a": 1\n    }\n  }\n}\n'),
    ],
)
def test_it_is_written_as_its_surroundings_are(text: str, new: str) -> None:
    assert JsonEntry(("provider", "mlxd"), {"a": 1}).put(text) == new


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ('{"provider": {"mlxd": {"a": 1}, "mine": 2}}', '{"provider": {"mine": 2}}'),
        ('{"provider": {"mine": 2, "mlxd": [true]}}', '{"provider": {"mine": 2}}'),
        ('{"provider": {"mlxd": 0}, "x": 1}', '{"x": 1}'),
        ('{ "x": 1 , "provider" : {"mlxd": 0} }', '{ "x": 1 }'),
        ('{"x": "mlxd"}', '{"x": "mlxd"}'),
    ],
)
def test_what_people_did_to_the_text_since_stays(changed: str, left: str) -> None:
    assert ENTRY.drop(changed, "") == left


def test_a_holder_that_was_there_before_stays_empty_as_it_was() -> None:
    before = '{"provider": { }, "x": 1}'
    changed = ENTRY.put(before).replace('"x": 1', '"x": 2')
    assert ENTRY.drop(changed, before) == '{"provider": { }, "x": 2}'


def test_a_new_file_has_what_it_needs_besides() -> None:
    edit = JsonEntry(("a", "mlxd"), {}, frame={"version": 1, "a": {}})
    assert json.loads(edit.put("")) == {"version": 1, "a": {"mlxd": {}}}
    assert json.loads(edit.put("\n")) == json.loads(edit.put(""))


def test_an_item_joins_a_list_that_is_the_whole_text() -> None:
    text = '[\n  {"name": "mine"}\n]\n'
    assert json.loads(ALONE.put(text)) == [{"name": "mine"}, {"name": "mlxd"}]
    assert ALONE.drop(ALONE.put(text), text) == text
    assert json.loads(ALONE.put("")) == [{"name": "mlxd"}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,}', "no plain JSON"),
        ("// mine\n{}", "no plain JSON"),
        ('{"a": 1', "no plain JSON"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}{}", "no plain JSON"),
        ('{"provider": ' * 100_000, "too deep"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ("[]", "something else"),
        ('{"provider": []}', "something else"),
        ('{"provider": null}', "something else"),
    ],
)
def test_what_is_not_understood_is_left_alone(text: str, reason: str) -> None:
    with pytest.raises(LeftAlone, match=reason):
        ENTRY.put(text)
