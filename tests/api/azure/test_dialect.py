"""OpenAI's APIs as Azure has them: deployments, paths, codes, and what a filter would say."""

from typing import Any

import pytest

from mlxd import errors
from mlxd.config.settings import AzureSettings, ModelSettings, ServerSettings, Settings
from tests.api.support import (
    AZURE_CHAT,
    DEMO,
    FIXED,
    HELLO,
    OTHER,
    Front,
    bytes_of,
    chunks_of,
    error_of,
    front,
    raising,
    settings_for,
)
from tests.scripts import SCRIPTS

VERSION = "api-version=2025-04-01-preview"
WITHOUT_DEPLOYMENT = ("/openai/v1/chat/completions", "/openai/chat/completions")
MODELS = {"demo": ModelSettings(source="demo"), "other": ModelSettings(source="demo")}


def deploying(deployments: dict[str, str] | None = None, *script: Any, **azure: Any) -> Front:
    """A server of two models that knows deployments of these names."""
    settings = Settings(
        models=MODELS,
        server=ServerSettings(unknown_model="refuse"),
        azure=AzureSettings(deployments=deployments, **azure),
    )
    return front(*(script or SCRIPTS["text"]), settings=settings, models=(DEMO, OTHER))


@pytest.mark.parametrize("query", ["", f"?{VERSION}", "?api-version=preview", "?api-version="])
@pytest.mark.parametrize("model", [{}, {"model": "other"}, {"model": "nobody"}, {"model": 5}])
async def test_the_deployment_of_the_path_is_the_model(query: str, model: Any) -> None:
    server = deploying()
    response = await server.post({"messages": HELLO, **model}, AZURE_CHAT + query)
    assert response.status_code == 200
    assert response.headers["x-mlxd-model"] == "demo"
    assert (await response.get_json())["model"] == "demo"


@pytest.mark.parametrize("path", WITHOUT_DEPLOYMENT)
async def test_without_a_deployment_in_the_path_the_body_names_it(path: str) -> None:
    server = deploying()
    response = await server.post({"messages": HELLO, "model": "other"}, path)
    assert response.headers["x-mlxd-model"] == "other"


@pytest.mark.parametrize("name", ["mlx-community/Qwen3-4B-4bit", "chat/completions", "a b", "é"])
async def test_any_name_of_a_deployment_is_read_from_the_path(name: str) -> None:
    server = deploying()
    path = f"/openai/deployments/{name}/chat/completions"
    error = await error_of(await server.post({"messages": HELLO}, path))
    assert error["code"] == "DeploymentNotFound"
    assert f"'{name}'" in error["message"]


@pytest.mark.parametrize("live", [False, True])
async def test_configured_deployments_lead_to_their_models(live: bool) -> None:
    server = deploying({"prod": "other", "test": "gpt-4o"})
    body = {"messages": HELLO, "model": "test", "stream": live}
    classic = await server.post(body, "/openai/deployments/prod/chat/completions")
    assert classic.headers["x-mlxd-model"] == "other"
    modern = await server.post(body, "/openai/v1/chat/completions")
    assert modern.headers["x-mlxd-model"] == "demo"
    assert b'"model":"test"' in await bytes_of(modern)


@pytest.mark.parametrize(
    ("deployments", "available"), [(None, "demo, gpt-4o, other"), ({"prod": "other"}, "prod")]
)
async def test_an_unknown_deployment_is_not_found(
    deployments: dict[str, str] | None, available: str
) -> None:
    server = deploying(deployments)
    for path in ("/openai/deployments/nobody/chat/completions", *WITHOUT_DEPLOYMENT):
        response = await server.post({"messages": HELLO, "model": "nobody"}, path)
        assert response.status_code == 404
        assert await error_of(response) == {
            "code": "DeploymentNotFound",
            "message": "The API deployment for this resource does not exist. "
            f"Asked for: 'nobody'. Available: {available}.",
            "type": "invalid_request_error",
            "param": None,
        }


async def test_a_table_without_deployments_leaves_the_models_their_names() -> None:
    server = deploying({})
    assert (await server.post({"messages": HELLO}, AZURE_CHAT)).status_code == 200
    body = await (await server.get("/openai/v1/models")).get_json()
    assert [model["id"] for model in body["data"]] == ["demo", "gpt-4o", "other"]


async def test_any_deployment_is_answered_while_there_is_only_one_model() -> None:
    server = front(*SCRIPTS["text"])
    response = await server.post({"messages": HELLO}, "/openai/deployments/x/chat/completions")
    assert (response.status_code, response.headers["x-mlxd-model"]) == (200, "demo")


async def test_the_api_of_another_vendor_knows_no_deployments() -> None:
    response = await deploying({"prod": "other"}).ask(model="prod")
    assert (await error_of(response))["code"] == "model_not_found"


@pytest.mark.parametrize("header", ["api-key", "Authorization", "x-api-key"])
async def test_a_key_is_taken_from_any_header(header: str) -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(api_keys=("right",)))
    for key, status in (("right", 200), ("wrong", 401)):
        value = f"Bearer {key}" if header == "Authorization" else key
        response = await server.post({"messages": HELLO}, AZURE_CHAT, **{header: value})
        assert response.status_code == status
    error = await error_of(response)
    assert (error["code"], error["param"]) == ("401", None)
    assert error["message"].startswith("Access denied due to invalid subscription key")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.RateLimited(retry_after=2.5), 429, "429"),
        (errors.QueueFull(limit=1), 503, "queue_full"),
        (errors.ContextTooLong(9000, 4096), 400, "context_length_exceeded"),
        (errors.EngineCrashed("gone"), 503, "engine_crashed"),
        (errors.InternalError(), 500, None),
    ],
)
async def test_errors_have_azures_codes_where_azure_has_its_own(
    error: errors.MlxdError, status: int, code: str | None
) -> None:
    response = await front(play=raising(error)).post({"messages": HELLO}, AZURE_CHAT)
    assert response.status_code == status
    assert (await error_of(response))["code"] == code


async def test_a_rate_limit_says_in_words_and_in_a_header_when_to_come_back() -> None:
    server = front(play=raising(errors.RateLimited(retry_after=2.5)))
    response = await server.post({"messages": HELLO}, AZURE_CHAT)
    assert (await error_of(response))["message"].endswith("Please retry after 3 seconds.")
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/openai", 404, "404"),
        ("POST", "/openai/v1", 404, "404"),
        ("POST", "/openai/nothing/here", 404, "404"),
        ("POST", "/openai/deployments/demo/embeddings", 404, "404"),
        ("POST", "/openai/v1/nothing", 404, "404"),
        ("GET", AZURE_CHAT, 405, "405"),
        ("DELETE", "/openai/models", 405, "405"),
        ("POST", "/openaix", 404, "unknown_url"),
    ],
)
async def test_wrong_paths_below_openai_are_told_in_azures_words(
    method: str, path: str, status: int, code: str
) -> None:
    response = await front().client.open(path, method=method)
    assert response.status_code == status
    assert (await error_of(response))["code"] == code


@pytest.mark.parametrize("path", ["/openai/models", "/openai/v1/models"])
async def test_models_are_listed_under_the_names_of_their_deployments(path: str) -> None:
    async def listed(server: Front) -> list[str]:
        body = await (await server.get(f"{path}?{VERSION}")).get_json()
        assert body["object"] == "list"
        return [model["id"] for model in body["data"]]

    assert await listed(deploying()) == ["demo", "gpt-4o", "other"]
    assert await listed(deploying({"prod": "other", "test": "gpt-4o"})) == ["prod", "test"]


@pytest.mark.parametrize("path", ["/openai/models", "/openai/v1/models"])
async def test_one_model_is_found_by_the_name_of_its_deployment(path: str) -> None:
    server = deploying({"prod": "demo"})
    found = await (await server.get(f"{path}/prod")).get_json()
    assert (found["id"], found["max_model_len"]) == ("prod", 8192)
    missing = await server.get(f"{path}/demo")
    assert (await error_of(missing))["code"] == "DeploymentNotFound"


async def test_deployments_are_listed_with_the_models_behind_them() -> None:
    async def listed(server: Front) -> dict[str, str]:
        body = await (await server.get(f"/openai/deployments?{VERSION}")).get_json()
        return {each["id"]: each["model"] for each in body["data"]}

    assert await listed(deploying()) == {"demo": "demo", "gpt-4o": "demo", "other": "other"}
    assert await listed(deploying({"prod": "gpt-4o"})) == {"prod": "demo"}


async def test_the_models_of_other_apis_keep_their_own_names() -> None:
    body = await (await deploying({"prod": "demo"}).get("/v1/models")).get_json()
    assert [model["id"] for model in body["data"]] == ["demo", "gpt-4o", "other"]


async def test_responses_carry_the_id_that_azures_tools_log() -> None:
    server = front(*SCRIPTS["text"])
    for response in (
        await server.post({"messages": HELLO}, AZURE_CHAT),
        await server.post({}, AZURE_CHAT),
        await server.get("/openai/v1/models"),
    ):
        assert response.headers["apim-request-id"] == response.headers["x-request-id"]
    assert FIXED.new_id() == response.headers["apim-request-id"]
    assert "apim-request-id" not in (await server.ask()).headers


async def test_no_filter_says_anything_unless_it_is_asked_for() -> None:
    server = front(*SCRIPTS["text"])
    for live in (False, True):
        data = await bytes_of(
            await server.post({"messages": HELLO, "stream": live, "n": 2}, AZURE_CHAT)
        )
        assert b"filter" not in data


async def test_every_choice_can_say_that_a_filter_found_nothing() -> None:
    server = deploying(content_filter_results=True)
    body = await (await server.post({"messages": HELLO, "n": 2}, AZURE_CHAT)).get_json()
    for each in (*body["choices"], *body["prompt_filter_results"]):
        assert each["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
    plain = await (await deploying().post({"messages": HELLO, "n": 2}, AZURE_CHAT)).get_json()
    del body["prompt_filter_results"]
    for each in body["choices"]:
        del each["content_filter_results"]
    assert body == plain


async def test_a_stream_with_filter_results_has_the_chunks_of_one_without() -> None:
    ask: dict[str, Any] = {
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    servers = deploying(content_filter_results=True), deploying()
    filtered, plain = [
        chunks_of(await bytes_of(await server.post(ask, AZURE_CHAT))) for server in servers
    ]
    said = []
    for chunk in filtered:
        for choice in chunk["choices"]:
            results = choice.pop("content_filter_results")
            assert bool(results) == bool(choice["delta"].get("content"))
            said.append(results)
    assert filtered == plain
    assert any(said)


async def test_an_error_in_a_stream_with_filter_results_stays_an_error() -> None:
    server = deploying(None, *SCRIPTS["failure_inside_a_block"], content_filter_results=True)
    response = await server.post({"messages": HELLO, "stream": True}, AZURE_CHAT)
    assert chunks_of(await bytes_of(response))[-1]["error"]["code"] == "engine_crashed"


async def test_azure_can_be_left_out_of_the_apis() -> None:
    server = front(settings=Settings(dialects=("openai_chat",)))
    response = await server.post({"messages": HELLO}, AZURE_CHAT)
    assert (await error_of(response))["code"] == "unknown_url"


async def test_azure_can_be_the_only_api() -> None:
    server = front(*SCRIPTS["text"], settings=Settings(dialects=("azure",)))
    assert (await server.post({"messages": HELLO}, AZURE_CHAT)).status_code == 200
    assert (await server.ask()).status_code == 404
