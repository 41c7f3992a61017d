"""Tools that Anthropic defines and the caller runs; their type alone says what they take."""

import re
from typing import Any

import msgspec

from mlxd.messages import Tool

_TYPE = re.compile(r"(bash|text_editor|memory)_([0-9]{8})")
_NEWER_EDITOR = "20250429"
"""From this version on the editor has no `undo_edit`, and a text to insert of its own."""

Schema = dict[str, Any]


def is_defined(kind: str) -> bool:
    """Whether a tool of this type has a schema here."""
    return _TYPE.fullmatch(kind) is not None


def defined_tool(kind: str, name: str) -> Tool:
    """The tool of a type for which `is_defined`, under the caller's name for it."""
    family, _, version = kind.rpartition("_")
    match family:
        case "bash":
            description, schema = _BASH
        case "memory":
            description, schema = _MEMORY
        case _:
            description, schema = _EDITOR if version >= _NEWER_EDITOR else _OLDER_EDITOR
    return Tool(name, description, msgspec.json.encode(schema).decode())


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


_PATH = _text("Absolute path of the file or directory.")
_EDITS = {
    "file_text": _text("The content of the new file, for `create`."),
    "old_str": _text("The text to replace, for `str_replace`; it must occur exactly once."),
    "new_str": _text("The text to put in its place, for `str_replace`."),
    "insert_line": {
        "type": "integer",
        "description": "The line to insert behind, for `insert`; 0 is the beginning.",
    },
    "insert_text": _text("The text to insert, for `insert`."),
    "view_range": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "The first and the last line to show, for `view`; -1 is the end.",
    },
}
_OLDER_EDITS = {
    **{name: schema for name, schema in _EDITS.items() if name != "insert_text"},
    "new_str": _text("The text to put there, for `str_replace` and `insert`."),
}


def _command(*names: str) -> Schema:
    return {"type": "string", "enum": list(names), "description": "What to do."}


_BASH = (
    "Run a command in a bash shell that keeps its state between calls.",
    _object(
        [],
        command=_text("The command to run. Required unless the shell is restarted."),
        restart={"type": "boolean", "description": "Start the shell anew."},
    ),
)
_EDITOR = (
    "View, create and edit files.",
    _object(
        ["command", "path"],
        command=_command("view", "create", "str_replace", "insert"),
        path=_PATH,
        **_EDITS,
    ),
)
_OLDER_EDITOR = (
    _EDITOR[0],
    _object(
        ["command", "path"],
        command=_command("view", "create", "str_replace", "insert", "undo_edit"),
        path=_PATH,
        **_OLDER_EDITS,
    ),
)
_MEMORY = (
    "Keep notes as files below /memories: look there first, and write down what matters later.",
    _object(
        ["command"],
        command=_command("view", "create", "str_replace", "insert", "delete", "rename"),
        path=_text("Path below /memories, for every command but `rename`."),
        old_path=_text("The path to rename, for `rename`."),
        new_path=_text("Its new path, for `rename`."),
        **_EDITS,
    ),
)
