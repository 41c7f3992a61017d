"""Responses and Conversations as Azure has them: the same answers at Azure's paths."""

import asyncio
from typing import Any

import pytest

from mlxd import errors
from mlxd.api.http.framework import Tuning
from mlxd.config.settings import (
    AzureSettings,
    ModelSettings,
    ResponsesSettings,
    ServerSettings,
    Settings,
)
from tests.api.support import DEMO, LIMIT, OTHER, Front, bytes_of, error_of, front, raising
from tests.scripts import SCRIPTS

VERSION = "api-version=2025-04-01-preview"
BASES = ("/openai/v1", "/openai")
CREATE = (*(f"{base}/responses" for base in BASES), "/openai/deployments/prod/responses")
HELLO = {"input": "Hello"}
every_base = pytest.mark.parametrize("base", BASES)


def deploying(*script: Any, filter_results: bool = False) -> Front:
    """A server with the deployment `prod` of one of its two models."""
    settings = Settings(
        models={"demo": ModelSettings(source="demo"), "other": ModelSettings(source="demo")},
        server=ServerSettings(unknown_model="refuse"),
        azure=AzureSettings(deployments={"prod": "other"}, content_filter_results=filter_results),
    )
    return front(
        *(script or SCRIPTS["text"]), settings=settings, models=(DEMO, OTHER), tuning=Tuning()
    )


async def sent(server: Front, method: str, path: str, body: Any = None) -> Any:
    """The body of an answer that is well."""
    response = await server.client.open(f"{path}?{VERSION}", method=method, json=body)
    assert response.status_code == 200, await response.get_data()
    return await response.get_json()


@pytest.mark.parametrize("path", CREATE)
@pytest.mark.parametrize("query", ["", f"?{VERSION}", "?api-version=preview"])
async def test_a_response_is_made_by_the_model_of_the_deployment(path: str, query: str) -> None:
    server = deploying()
    body = HELLO if "deployments" in path else {**HELLO, "model": "prod"}
    response = await server.post(body, path + query)
    assert response.status_code == 200
    assert response.headers["x-mlxd-model"] == "other"
    made = await response.get_json()
    assert (made["object"], made["status"], made["model"]) == ("response", "completed", "prod")
    (request,) = server.heard()
    assert (request.model, request.source.dialect) == ("other", "azure")


@pytest.mark.parametrize("path", CREATE)
async def test_a_response_is_streamed(path: str) -> None:
    data = await bytes_of(await deploying().post({**HELLO, "model": "prod", "stream": True}, path))
    assert data.startswith(b"event: response.created\n")
    assert b"event: response.completed\n" in data


async def test_the_deployment_of_the_path_goes_before_the_model_of_the_body() -> None:
    response = await deploying().post({**HELLO, "model": "nobody"}, CREATE[-1])
    assert response.headers["x-mlxd-model"] == "other"


@pytest.mark.parametrize("path", ["/openai/responses", "/openai/deployments/nobody/responses"])
async def test_an_unknown_deployment_is_not_found(path: str) -> None:
    error = await error_of(await deploying().post({**HELLO, "model": "nobody"}, path))
    assert (error["code"], error["type"]) == ("DeploymentNotFound", "invalid_request_error")


@every_base
async def test_a_response_goes_on_from_another_and_is_kept_until_it_is_deleted(base: str) -> None:
    server = deploying()
    first = await sent(server, "POST", f"{base}/responses", {**HELLO, "model": "prod"})
    more = {"input": "More", "model": "prod", "previous_response_id": first["id"]}
    second = await sent(server, "POST", f"{base}/responses", more)
    assert [message.role for message in server.heard()[1].messages] == ["user", "assistant", "user"]
    one = f"{base}/responses/{second['id']}"
    assert await sent(server, "GET", one) == second
    assert len((await sent(server, "GET", f"{one}/input_items"))["data"]) == 3
    assert (await sent(server, "DELETE", one))["deleted"]
    gone = await server.get(one)
    assert (gone.status_code, (await error_of(gone))["code"]) == (404, None)


@every_base
async def test_tokens_are_counted_and_a_history_is_compacted(base: str) -> None:
    server = deploying()
    body = {**HELLO, "model": "prod"}
    counted = await sent(server, "POST", f"{base}/responses/input_tokens", body)
    assert counted["object"] == "response.input_tokens"
    compacted = await sent(server, "POST", f"{base}/responses/compact", body)
    assert compacted["object"] == "response.compaction"


@every_base
async def test_a_conversation_is_kept_with_its_items(base: str) -> None:
    server = deploying()
    items = [{"role": "user", "content": "Hello"}]
    made = await sent(server, "POST", f"{base}/conversations", {"items": items})
    one = f"{base}/conversations/{made['id']}"
    (kept,) = (await sent(server, "GET", f"{one}/items"))["data"]
    assert (await sent(server, "GET", f"{one}/items/{kept['id']}"))["content"][0]["text"] == "Hello"
    await sent(server, "POST", one, {"metadata": {"topic": "x"}})
    assert (await sent(server, "GET", one))["metadata"] == {"topic": "x"}
    answer = {**HELLO, "model": "prod", "conversation": made["id"]}
    await sent(server, "POST", f"{base}/responses", answer)
    assert len((await sent(server, "GET", f"{one}/items"))["data"]) == 3
    assert (await sent(server, "DELETE", one))["deleted"]


@every_base
async def test_a_websocket_is_answered_by_the_model_of_the_deployment(base: str) -> None:
    server = deploying()
    message = {"type": "response.create", **HELLO}
    async with asyncio.timeout(LIMIT), server.client.websocket(f"{base}/responses") as socket:
        await socket.send_json({**message, "model": "nobody"})
        refusal = await socket.receive_json()
        await socket.send_json({**message, "model": "prod"})
        event: Any = {"type": ""}
        while event["type"] != "response.completed":
            event = await socket.receive_json()
    assert (refusal["status"], refusal["error"]["code"]) == (404, "DeploymentNotFound")
    assert event["response"]["model"] == "prod"
    (request,) = server.heard()
    assert (request.model, request.source.dialect) == ("other", "azure")


async def test_a_response_that_was_made_at_one_path_is_found_at_the_others() -> None:
    server = deploying()
    made = await sent(server, "POST", CREATE[-1], HELLO)
    for base in (*BASES, "/v1"):
        assert (await sent(server, "GET", f"{base}/responses/{made['id']}"))["id"] == made["id"]


def test_every_path_of_responses_is_there_with_and_without_a_version() -> None:
    rules = {rule.rule for rule in deploying().app.url_map.iter_rules()}
    own = {rule for rule in rules if rule.startswith(("/v1/responses", "/v1/conversations"))}
    assert len(own) == 10
    assert {base + rule.removeprefix("/v1") for base in BASES for rule in own} <= rules


@pytest.mark.parametrize("path", CREATE)
async def test_a_prompt_too_long_names_the_field_of_this_api(path: str) -> None:
    server = front(play=raising(errors.ContextTooLong(9000, 4096)))
    error = await error_of(await server.post({**HELLO, "model": "demo"}, path))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    chat = await server.post(
        {"messages": [{"role": "user", "content": "Hello"}]}, "/openai/v1/chat/completions"
    )
    assert (await error_of(chat))["param"] == "messages"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": 7}, "input"),
        ({**HELLO, "temperature": 9}, "temperature"),
        ({**HELLO, "previous_response_id": "resp_none"}, "previous_response_id"),
    ],
)
@pytest.mark.parametrize("path", CREATE)
async def test_what_openai_refuses_is_refused_in_its_words(
    path: str, body: dict[str, Any], param: str
) -> None:
    response = await deploying().post({"model": "prod", **body}, path)
    assert response.status_code == 400
    assert (await error_of(response))["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/openai/responses/x/nothing", 404, "404"),
        ("PUT", "/openai/v1/responses", 405, "405"),
        ("GET", "/openai/deployments/prod/responses", 405, "405"),
        ("GET", "/openai/deployments/prod/responses/resp_1", 404, "404"),
        ("GET", "/openai/v1/conversations/conv_none", 404, None),
    ],
)
async def test_paths_that_are_not_there_are_told_in_azures_words(
    method: str, path: str, status: int, code: str | None
) -> None:
    response = await deploying().client.open(path, method=method)
    assert (response.status_code, (await error_of(response))["code"]) == (status, code)


async def test_thinking_is_shown_as_configured() -> None:
    settings = Settings(responses=ResponsesSettings(reasoning_events="none"))
    server = front(*SCRIPTS["reasoning_then_text"], settings=settings)
    made = await sent(server, "POST", "/openai/responses", {**HELLO, "model": "demo"})
    assert [item["type"] for item in made["output"]] == ["message"]


async def test_filter_results_are_for_chat_alone() -> None:
    server = deploying(filter_results=True)
    assert b"filter" not in await bytes_of(await server.post(HELLO, CREATE[-1]))
