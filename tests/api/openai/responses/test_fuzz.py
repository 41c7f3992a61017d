"""Bodies of any shape: each is understood or refused, and nothing else comes of it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxd.api.dialect import Caller
from mlxd.api.openai.responses.format.calls import Past, UnresolvedCall
from mlxd.api.openai.responses.format.conversation_bodies import new_items
from mlxd.errors import ItemNotFound, MlxdError, RequestError
from tests.api.responses import DIALECT, Json, caller, parsed
from tests.scripts import SCRIPTS

pytestmark = pytest.mark.thorough

TYPES = (
    *("message", "function_call", "function_call_output", "custom_tool_call", "reasoning"),
    *("custom_tool_call_output", "item_reference", "compaction", "additional_tools"),
    *("local_shell_call", "shell_call_output", "web_search_call"),
)
KEYS = st.sampled_from(
    (
        *("type", "role", "content", "id", "status", "call_id", "name", "arguments", "output"),
        *("summary", "encrypted_content", "tools", "action", "input", "text", "file_data"),
        *("image_url", "namespace", "filename", "parameters", "format"),
    )
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=5),
    st.sampled_from((*TYPES, "user", "assistant", "input_text", "input_file", "data:,x")),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=10,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        (
            *("tools", "tool_choice", "text", "reasoning", "include", "metadata", "model"),
            *("instructions", "conversation", "previous_response_id", "prompt", "stop"),
        )
    ),
    VALUES,
    max_size=3,
)
ITEMS = st.lists(
    st.builds(
        lambda fields, kind: fields | ({"type": kind} if kind else {}),
        st.dictionaries(KEYS, VALUES, max_size=8),
        st.sampled_from((*TYPES, None)),
    ),
    max_size=3,
)


Understand = Callable[[Json, Caller], UnresolvedCall]


def attempt(body: Json, understand: Understand) -> MlxdError | None:
    """Read the body, answer it, go on from it; the error that forbade it."""
    try:
        call = understand(body, caller())
        renderer = call.resolve(Past()).renderer
        for event in SCRIPTS["text"]:
            list(renderer.frames(0, event))
        parsed().resolve(Past(call.input))
        new_items(body["input"], {})
    except MlxdError as error:
        return error
    return None


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(FIELDS, ITEMS, st.sampled_from((DIALECT.response_call, DIALECT.compact_call)))
def test_a_body_of_any_shape_is_understood_or_refused(
    fields: Json, items: list[Json], understand: Understand
) -> None:
    error = attempt({"model": "demo", "input": items, **fields}, understand)
    assert error is None or isinstance(error, RequestError)
    if error is not None:
        reply = DIALECT.error(error, caller())
        assert reply.status == (404 if isinstance(error, ItemNotFound) else 400)
