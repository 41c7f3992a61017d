"""`service_tier` in each API: what it asks for, what a key may, and what the answer says."""

from typing import Any

import pytest

from mlxd.config.settings import KeySettings, ServerSettings, Settings
from tests.api.support import AZURE_CHAT, CHAT, HELLO, MESSAGES, RESPONSES, Front, front
from tests.scripts import SCRIPTS

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    AZURE_CHAT + "?api-version=2024-10-21": {"messages": HELLO},
    RESPONSES: {"input": "Hello"},
    MESSAGES: {"messages": HELLO, "max_tokens": 9},
}
OPENAI = tuple(path for path in BODIES if path != MESSAGES)


@pytest.fixture(scope="module")
def server() -> Front:
    keys = {
        "best": KeySettings(key="best-key", priority="high"),
        "usual": KeySettings(key="usual-key"),
        "least": KeySettings(key="least-key", priority="low"),
    }
    settings = Settings(server=ServerSettings(api_keys=("plain-key",)), keys=keys)
    return front(*SCRIPTS["text"], settings=settings)


async def given(server: Front, path: str, tier: str | None, key: str) -> tuple[int, str]:
    """The priority that the engine was given, and the tier that the answer names."""
    fields = {} if tier is None else {"service_tier": tier}
    response = await server.post(BODIES[path] | fields, path, authorization=f"Bearer {key}-key")
    assert response.status_code == 200
    assert "service_tier" not in response.headers.get("x-mlxd-ignored", "")
    body = await response.get_json()
    (request,) = server.heard()
    return request.priority, body.get("service_tier") or body["usage"]["service_tier"]


@pytest.mark.parametrize("path", OPENAI)
@pytest.mark.parametrize(
    ("tier", "key", "expected"),
    [
        (None, "usual", (0, "default")),
        ("auto", "best", (0, "default")),
        ("flex", "plain", (-1, "flex")),
        ("flex", "best", (-1, "flex")),
        ("priority", "best", (1, "priority")),
        ("priority", "usual", (0, "default")),
        ("priority", "plain", (0, "default")),
        ("default", "least", (-1, "flex")),
    ],
)
async def test_a_request_gets_what_its_key_may_and_is_told(
    server: Front, path: str, tier: str | None, key: str, expected: tuple[int, str]
) -> None:
    assert await given(server, path, tier, key) == expected


@pytest.mark.parametrize(
    ("tier", "key", "expected"),
    [
        (None, "best", (0, "standard")),
        ("standard_only", "best", (0, "standard")),
        ("auto", "best", (1, "priority")),
        ("auto", "usual", (0, "standard")),
        ("auto", "least", (-1, "standard")),
    ],
)
async def test_auto_is_the_best_that_a_key_has_where_no_other_word_asks_for_it(
    server: Front, tier: str | None, key: str, expected: tuple[int, str]
) -> None:
    assert await given(server, MESSAGES, tier, key) == expected


@pytest.mark.parametrize("path", BODIES)
async def test_a_tier_that_nobody_knows_is_named_as_ignored(server: Front, path: str) -> None:
    body = BODIES[path] | {"service_tier": "golden"}
    response = await server.post(body, path, authorization="Bearer usual-key")
    assert "service_tier" in response.headers["x-mlxd-ignored"]
    (request,) = server.heard()
    assert request.priority == 0


async def test_a_key_of_a_table_is_a_key_and_others_are_none(server: Front) -> None:
    response = await server.post(BODIES[CHAT], authorization="Bearer wrong-key")
    assert response.status_code == 401
