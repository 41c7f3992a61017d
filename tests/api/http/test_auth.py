"""Who gets in: keys wherever clients put them, whatever way a path is written."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any, cast

import pytest

from mlxd.api.http.api_keys import MAX_ADDRESSES, FailureLimit, KeyRing, presented_keys
from mlxd.errors import RateLimited, Unauthorized
from tests.api.support import CHAT, HELLO, Front, error_of, front, settings_for
from tests.scripts import SCRIPTS

KEY, SECOND = "right-key", "second-key"
PATHS = [
    *("/v1/models", "/models", "/v1/models/demo", "/v1/models/nobody/knows", CHAT),
    *("/chat/completions", "/v1", "/v2/models", "/no/such/path"),
]
FORMS = [
    "/v1/models",
    "//v1/models",
    "/v1//models",
    "/v1/models/",
    "/v1/./models",
    "/health/../v1/models",
    "/V1/MODELS",
    "/v1/models;health",
    "/v1/models?path=/health",
    "/v1%2fmodels",
    "/%76%31/models",
    "/v1/models%00",
    "http://localhost/v1/models",
    "*",
    "health",
    "",
]


def serving(*keys: str, **server: Any) -> Front:
    return front(*SCRIPTS["text"], settings=settings_for(api_keys=keys, **server))


async def status(server: Front, path: str, method: str = "GET", **headers: str) -> int:
    """The status of a request whose path is sent as it stands."""
    return (await raw(server, path, method, **headers))[0]


async def raw(
    server: Front, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str]]:
    """Status and headers of a request past every client that would tidy it up."""
    fields = {"host": "localhost", **headers}
    sent: list[Any] = []
    scope = {
        **{"type": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http"},
        **{"method": method, "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"root_path": "", "client": ("10.0.0.9", 1), "server": ("127.0.0.1", 80)},
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()],
        "extensions": {},
    }
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    await server.app(cast(Any, scope), receive, send)
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], names


def keyed(name: str, key: str) -> dict[str, str]:
    return {name: f"Bearer {key}" if name == "authorization" else key}


@pytest.mark.parametrize("name", ["authorization", "x_api_key", "api_key"])
@pytest.mark.parametrize("path", PATHS)
async def test_every_route_but_health_and_the_root_wants_the_key(name: str, path: str) -> None:
    server = serving(KEY, SECOND)
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert await status(server, path, method) == 401
        assert await status(server, path, method, **keyed(name, "wrong-key")) == 401
    for key in (KEY, SECOND):
        assert await status(server, path, **keyed(name, key)) in (200, 404, 405)


@pytest.mark.parametrize("path", FORMS)
async def test_no_way_of_writing_a_path_gets_around_the_key(path: str) -> None:
    server = serving(KEY)
    code, headers = await raw(server, path)
    opens = path in ("", "health")
    assert code == (200 if opens else 401)
    right = await status(server, path, authorization=f"Bearer {KEY}")
    assert right in (200, 404)
    assert "location" not in headers


@pytest.mark.parametrize("path", ["/health", "/"])
async def test_probes_need_no_key(path: str) -> None:
    server = serving(KEY)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x_api_key": KEY}):
        assert await status(server, path, "GET", **headers) == 200
        assert await status(server, path, "HEAD", **headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Token {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer x{KEY}"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": f"Bearer {KEY}\0"},
        {"authorization": f"Bearer {hashlib.sha256(KEY.encode()).hexdigest()}"},
        {"authorization": f"Bearer {KEY} {KEY}"},
        {"authorization": f"Bearer {KEY},{SECOND}"},
        {"x_api_key": f"Bearer {KEY}"},
        {"x_api_key": "\u00e9" * 1000},
        {"authorization": f"Bearer {KEY}", "x_api_key": "wrong"},
        {"authorization": "Bearer wrong", "x_api_key": KEY},
        {"api_key": KEY, "x_api_key": SECOND},
        {"authorization": f"Bearer {KEY}", "api_key": SECOND},
        {"cookie": f"api_key={KEY}"},
        {"proxy_authorization": f"Bearer {KEY}"},
    ],
)
async def test_anything_but_one_right_key_is_a_401(headers: dict[str, str]) -> None:
    code, fields = await raw(serving(KEY, SECOND), "/v1/models", **headers)
    assert (code, fields["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"bearer   {KEY} "},
        {"authorization": f"BEARER {KEY}"},
        {"authorization": f"Bearer {KEY}", "api_key": KEY},
        {"authorization": f"Bearer {KEY}", "api_key": "", "x_api_key": KEY},
        {"authorization": "Bearer ", "api_key": KEY},
    ],
)
async def test_one_right_key_may_stand_in_several_places(headers: dict[str, str]) -> None:
    assert await status(serving(KEY, SECOND), "/v1/models", **headers) == 200


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer x"}, {"api_key": "a", "x_api_key": "b"}]
)
async def test_without_configured_keys_any_key_or_none_will_do(headers: dict[str, str]) -> None:
    server = serving()
    response = await server.post({"messages": HELLO}, **headers)
    assert response.status_code == 200
    assert server.engine.requests[0].source.key == ""


async def test_prefixes_are_shared_by_requests_of_one_key_only() -> None:
    server = serving(KEY, SECOND)
    for key in (KEY, SECOND, KEY):
        assert (await server.post({"messages": HELLO}, x_api_key=key)).status_code == 200
    first, second, third = (request.source.key for request in server.engine.requests)
    assert first == third != second
    assert first == hashlib.sha256(KEY.encode()).hexdigest()[:12]


async def test_the_refusal_repeats_no_key() -> None:
    response = await serving(KEY).get("/v1/models", authorization="Bearer sk-12345")
    error = await error_of(response)
    assert error["message"] == "Incorrect API key provided."
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


async def test_guessing_is_slowed_down_and_locks_nobody_out() -> None:
    server = serving(KEY)
    codes: list[int] = []
    # A guess a tenth of a second is allowed, so how many it takes depends on the machine.
    while 429 not in codes and len(codes) < 1000:
        codes.append(await status(server, "/v1/models", x_api_key=f"guess-{len(codes)}"))
    assert codes[:10] == [401] * 10
    assert codes[-1] == 429
    assert await status(server, "/v1/models", x_api_key=KEY) == 200
    other = await server.get("/v1/models", x_api_key="guess")
    assert other.status_code == 401


@pytest.mark.parametrize("path", ["/health", "/"])
async def test_probes_without_a_key_are_no_guesses(path: str) -> None:
    server = serving(KEY)
    for _ in range(100):
        assert await status(server, path) == 200
    assert await status(server, "/v1/models", x_api_key="wrong") == 401


@pytest.mark.parametrize("path", ["/health", "/"])
async def test_a_key_can_not_be_guessed_at_a_probe(path: str) -> None:
    server = serving(KEY)
    for number in range(100):
        assert await status(server, path, x_api_key=f"guess-{number}") == 200
    assert await status(server, "/v1/models", x_api_key="guess") == 429
    assert await status(server, "/v1/models", x_api_key=KEY) == 200


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_guess_ten_times_a_second() -> None:
    clock = Clock()
    limit = FailureLimit(clock)
    for _ in range(10):
        limit.check("a")
        limit.failed("a")
    with pytest.raises(RateLimited):
        limit.check("a")
    limit.check("b")
    clock.now = 0.1
    limit.check("a")
    limit.failed("a")
    with pytest.raises(RateLimited):
        limit.check("a")
    clock.now = 1000.0
    for _ in range(10):
        limit.check("a")
        limit.failed("a")
    with pytest.raises(RateLimited):
        limit.check("a")


def test_the_memory_of_guessers_has_a_limit() -> None:
    limit = FailureLimit(Clock(), rate=1)
    for number in range(MAX_ADDRESSES + 1):
        limit.failed(str(number))
    limit.check("0")
    with pytest.raises(RateLimited):
        limit.check("1")


def test_a_key_ring_without_keys_knows_nobody() -> None:
    assert not KeyRing(())
    with pytest.raises(Unauthorized):
        KeyRing(()).identify(["x"])


def test_keys_are_found_whatever_the_case_of_their_header() -> None:
    fields: Iterator[tuple[str, str]] = iter(
        [("X-API-Key", "a"), ("API-KEY", "a"), ("AUTHORIZATION", "Bearer b"), ("Host", "c")]
    )
    assert presented_keys(fields) == ["a", "b"]
