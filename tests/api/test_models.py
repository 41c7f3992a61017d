"""Which model answers, and what is said about the models there are."""

from typing import Any

import pytest
from msgspec.structs import replace

from mlxd.api.model_names import UnknownModel, route_model
from mlxd.config.settings import DefaultSettings, ServerSettings, Settings
from mlxd.errors import ModelNotFound
from mlxd.status import ModelInfo
from tests.api.support import DEMO, NOW, OTHER, Front, error_of, front
from tests.scripts import SCRIPTS

BOTH = (DEMO, OTHER)


def serving(*models: ModelInfo, unknown: UnknownModel = "auto", default: str = "") -> Front:
    settings = Settings(
        server=ServerSettings(unknown_model=unknown), defaults=DefaultSettings(model=default)
    )
    return front(*SCRIPTS["text"], models=models, settings=settings)


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (None, "demo"),
        ("", "demo"),
        ("demo", "demo"),
        ("other", "other"),
        ("gpt-4o", "demo"),
        ("claude-sonnet-4", "demo"),
        ("claude-", "demo"),
    ],
)
async def test_a_configured_name_is_answered_by_its_model(asked: str | None, answers: str) -> None:
    server = serving(*BOTH, unknown="refuse")
    response = await server.ask(model=asked)
    assert response.status_code == 200
    assert response.headers["x-mlxd-model"] == answers
    assert server.engine.requests[0].model == answers
    assert (await response.get_json())["model"] == (asked or answers)


@pytest.mark.parametrize(
    ("unknown", "models", "status"),
    [
        ("auto", (DEMO,), 200),
        ("auto", BOTH, 404),
        ("default", BOTH, 200),
        ("refuse", (DEMO,), 404),
        ("refuse", BOTH, 404),
    ],
)
@pytest.mark.parametrize("live", [False, True])
async def test_an_unknown_name_is_answered_as_configured(
    unknown: UnknownModel, models: tuple[ModelInfo, ...], status: int, live: bool
) -> None:
    server = serving(*models, unknown=unknown, default=models[-1].id)
    response = await server.ask(model="gpt-9/mini:latest", stream=live)
    assert response.status_code == status
    if status == 200:
        assert response.headers["x-mlxd-model"] == models[-1].id
        assert b'"model":"gpt-9/mini:latest"' in await response.get_data(as_text=False)
    else:
        assert not server.engine.requests
        assert (await error_of(response))["code"] == "model_not_found"


NAMES = [
    *("..", "../demo", "/etc/passwd", "~/models", "demo/..", "C:\\models", "file:///etc/passwd"),
    *("demo\0", "demo\n", " demo", "demo ", "d\u00e9mo", "demo\u202e", "x" * 257, "\uff0e\uff0e"),
    *("{{7*7}}", "demo;ls", "$(id)", "%2e%2e", "demo?x", "*", "gpt-4o*", "claude *", "a\r\nb: c"),
    *("claude-\n", "claude-{{7*7}}", "claude-\u00e9", "claude-" + "x" * 250),
]


LENIENT = [serving(DEMO, unknown="auto"), serving(DEMO, OTHER, unknown="default")]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_no_name_is_unknown_and_never_a_path(name: str) -> None:
    for server in LENIENT:
        response = await server.ask(model=name)
        if name in ("..", "../demo", "/etc/passwd", "demo/..", "file:///etc/passwd"):
            # Made of letters that names have: answered like any unknown name, and only echoed.
            assert [request.model for request in server.heard()] == ["demo"]
            continue
        assert response.status_code == 404
        assert len((await error_of(response))["message"]) < 400
        assert not server.heard()


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("claude-*", "claude-", True),
        ("claude-*", "claude", False),
        ("*", "anything", True),
        ("*-mini", "gpt-mini", True),
        ("*-mini", "gpt-minimal", False),
        ("gpt-*-mini", "gpt-5-mini", True),
        ("gpt-*-mini", "gpt-mini", False),
        ("a*b*a", "aba", True),
        ("a*b*a", "ab", False),
        ("a*b*c", "axc", False),
        ("a*ab", "ab", False),
        ("a[bc]", "ab", False),
        ("a?c", "abc", False),
        ("a" * 20 + "*" * 100 + "b", "a" * 256, False),
    ],
)
def test_a_star_stands_for_anything_and_nothing_else_is_special(
    pattern: str, name: str, fits: bool
) -> None:
    models = (ModelInfo(id="demo", aliases=(pattern,)),)
    if fits:
        assert route_model(name, models, default="", unknown="refuse") == "demo"
    else:
        with pytest.raises(ModelNotFound):
            route_model(name, models, default="", unknown="refuse")


def test_exact_names_beat_patterns_and_ids_beat_aliases() -> None:
    models = (
        ModelInfo(id="one", aliases=("*", "two", "three")),
        ModelInfo(id="two", aliases=("four",)),
    )
    routes = {
        name: route_model(name, models, default="two", unknown="refuse")
        for name in ("one", "two", "three", "four", "five", "")
    }
    assert routes == {
        **{"one": "one", "two": "two", "three": "one", "four": "two", "five": "one", "": "two"}
    }


@pytest.mark.parametrize("unknown", ["auto", "default", "refuse"])
def test_without_models_every_name_is_unknown(unknown: UnknownModel) -> None:
    for name in ("", "demo"):
        with pytest.raises(ModelNotFound):
            route_model(name, (), default="demo", unknown=unknown)


def described(**fields: Any) -> dict[str, Any]:
    return {
        "object": "model",
        "created": NOW,
        "owned_by": "mlxd",
        "type": "model",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        **fields,
    }


SIZES = {
    "max_model_len": 8192,
    "context_length": 8192,
    "max_input_tokens": 8192,
    "max_tokens": 4096,
}


async def test_the_list_names_every_model_under_each_of_its_names() -> None:
    body = await (await serving(*BOTH).get("/v1/models?limit=1000")).get_json()
    assert body == {
        "object": "list",
        "data": [
            described(id="demo", display_name="demo", **SIZES),
            described(id="gpt-4o", display_name="gpt-4o", **SIZES),
            described(id="other", display_name="other"),
        ],
        "first_id": "demo",
        "last_id": "other",
        "has_more": False,
    }


async def test_no_more_tokens_are_promised_than_the_context_holds() -> None:
    small = replace(DEMO, context_length=2048, max_tokens=4096)
    body = await (await serving(small).get("/v1/models/demo")).get_json()
    assert (body["context_length"], body["max_tokens"]) == (2048, 2048)


@pytest.mark.parametrize("path", ["/v1/models/{}", "/models/{}"])
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("demo", 200),
        ("gpt-4o", 200),
        ("claude-opus", 200),
        ("other", 200),
        ("nobody", 404),
        ("mlx-community/Qwen3-4B-4bit", 404),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("../../etc/passwd", 404),
        ("x" * 5000, 404),
    ],
)
async def test_one_model_is_found_by_the_names_that_are_configured(
    path: str, name: str, status: int
) -> None:
    response = await serving(*BOTH, unknown="default").get(path.format(name))
    assert response.status_code == status
    if status == 200:
        assert (await response.get_json())["id"] == name
    else:
        assert (await error_of(response))["code"] == "model_not_found"


async def test_ids_with_slashes_and_colons_are_found() -> None:
    model = replace(OTHER, id="mlx-community/Qwen3-4B:4bit")
    response = await serving(model).get("/v1/models/mlx-community/Qwen3-4B:4bit")
    assert (await response.get_json())["id"] == model.id


async def test_the_root_answers_at_once() -> None:
    server = serving(DEMO)
    assert (await server.get("/")).status_code == 200
    head = await server.client.head("/")
    assert head.status_code == 200
