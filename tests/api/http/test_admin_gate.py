"""Who may call the admin endpoints: the token, where it goes, and what never opens the door."""

from functools import cache
from typing import Any, cast

import pytest

from mlxd.config.settings import ServerSettings, Settings
from tests.api.support import HELLO, error_of
from tests.api.watching import TOKEN, Watched, json_of, watched
from tests.scripts import SCRIPTS

KEY = "an-api-key"
READS = ("/admin/status", "/admin/events", "/admin/history", "/admin/config", "/metrics")
CHANGES = (
    *("/admin/requests/req_1/cancel", "/admin/models/demo/load", "/admin/models/demo/unload"),
    "/admin/engine/restart",
    "/admin/reload",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FORMS = (
    *("//admin/status", "/admin//status", "/%61dmin/status", "/admin%2fstatus", "/./admin/status"),
    *(
        "/x/../admin/status",
        "/ADMIN/status",
        "/admin/status/",
        "/admin/status;x",
        "/v1/admin/status",
    ),
    *("/admin", "/admin/", "/admin/nothing", "//metrics", "/metrics/", "/METRICS", "/admin/%2e"),
    *("http://127.0.0.1/admin/status", "/admin/status%00", "/admin/status?key=x"),
)
WRONG: tuple[dict[str, str], ...] = (
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer wrong"},
    {"authorization": f"Bearer {KEY}"},
    {"authorization": TOKEN},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN.upper()}"},
    {"authorization": "Bearer \xff"},
    {"authorization": "", "x_api_key": TOKEN},
    {"authorization": "", "api_key": TOKEN},
    {"authorization": "", "cookie": f"token={TOKEN}"},
)


def keyed() -> Watched:
    return watched(*SCRIPTS["text"], settings=Settings(server=ServerSettings(api_keys=(KEY,))))


@cache
def open_to_pages() -> Watched:
    return watched(settings=Settings(server=ServerSettings(cors_origins=("*",))))


@pytest.mark.parametrize("path", [*READS, *CHANGES])
@pytest.mark.parametrize("method", METHODS)
async def test_no_method_of_any_route_works_without_the_token(path: str, method: str) -> None:
    server = keyed()
    for headers in WRONG[:5]:
        response = await server.admin(path, method, **headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    assert (await server.status()).engine.restarts == 0


@pytest.mark.parametrize("headers", WRONG, ids=str)
async def test_nothing_but_the_token_itself_in_its_header_is_the_token(
    headers: dict[str, str],
) -> None:
    response = await keyed().admin("/admin/status", **headers)
    assert response.status_code == 401
    body = await json_of(response)
    assert set(body["error"]) == {"type", "message"}
    assert TOKEN not in str(body)


@pytest.mark.parametrize("path", [*READS[:1], *READS[2:], *CHANGES])
async def test_a_route_has_its_one_method_and_a_get_changes_nothing(path: str) -> None:
    server = watched()
    right = ("GET", "HEAD") if path in READS else ("POST",)
    for method in METHODS:
        code = (await server.admin(path, method)).status_code
        assert (code == 405) == (method not in right)
        if method == "GET":
            status = await server.status()
            assert (status.engine.restarts, status.engine.models[0].state) == (0, "loaded")


async def status_of(server: Watched, path: str, **headers: str) -> tuple[int, bytes]:
    """The answer to a GET of `path` exactly as it is written."""
    sent: list[Any] = []
    fields = [(b"host", b"127.0.0.1"), *((n.encode(), v.encode()) for n, v in headers.items())]
    bare, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": bare.replace("%61", "a")
        .replace("%2f", "/")
        .replace("%2e", ".")
        .replace("%00", "\0"),
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": fields,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await server.app(cast(Any, scope), receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("path", FORMS)
async def test_no_way_of_writing_a_path_gets_around_the_token(path: str) -> None:
    server = keyed()
    for authorization in ("", "Bearer wrong"):
        code, body = await status_of(server, path, authorization=authorization)
        assert (code, b"uptime" in body) == (401, False)
    # Where it is no admin path, the API key may open it, and finds nothing there.
    code, body = await status_of(server, path, authorization=f"Bearer {KEY}")
    assert code in (401, 404)
    assert b"uptime" not in body


@pytest.mark.parametrize("path", [*READS, *CHANGES, "/admin/nothing"])
@pytest.mark.parametrize("origin", ["http://localhost:3000", "null", "https://evil.example", ""])
async def test_no_page_may_call_even_with_the_token(path: str, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        response = await open_to_pages().admin(
            path, method, origin=origin, access_control_request_method="GET"
        )
        assert response.status_code == 403
        assert not [name for name, _ in response.headers if "access-control" in name.lower()]


@pytest.mark.parametrize("path", [*READS, *CHANGES])
async def test_a_host_that_is_not_served_is_refused_before_the_token_counts(path: str) -> None:
    response = await watched().admin(path, host="evil.example")
    assert response.status_code == 403
    assert set((await json_of(response))["error"]) == {"type", "message"}


async def test_guessing_the_token_is_slowed_down_and_stops_nobody_else() -> None:
    server = watched()
    codes: list[int] = []
    while 429 not in codes and len(codes) < 1000:
        guess = f"Bearer {len(codes)}"
        codes.append((await server.admin("/admin/status", authorization=guess)).status_code)
    assert codes[:10] == [401] * 10
    assert 429 in codes
    assert (await server.admin("/admin/status")).status_code == 200


async def test_the_token_opens_nothing_else() -> None:
    server = keyed()
    response = await server.post({"messages": HELLO}, authorization=f"Bearer {TOKEN}")
    assert response.status_code == 401
    assert (await error_of(response))["code"] == "invalid_api_key"


async def test_every_server_without_facts_has_a_token_nobody_knows() -> None:
    server = watched()
    for guess in ("", "None", "token"):
        assert (await server.admin("/admin", authorization=f"Bearer {guess}")).status_code == 401
