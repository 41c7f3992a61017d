"""Which Host and Origin headers are served: no page of another site gets through."""

import itertools

import pytest
from quart import Response
from werkzeug.datastructures import Headers

from mlxd.api.http.origins import HostList, OriginList
from mlxd.config.settings import ServerSettings
from tests.api.support import CHAT, HELLO, Front, error_of, front, settings_for
from tests.scripts import SCRIPTS

GOOD_HOSTS = [
    *("localhost", "LOCALHOST", "localhost:8484", "localhost.:8484", "127.0.0.1", "127.0.0.1:1"),
    *("127.8.8.8:65535", "[::1]", "[::1]:8484", "[0:0:0:0:0:0:0:1]:80", "box.example"),
    *("BOX.example:8484", "only.example:8080", "[fd00::7]:99"),
]
BAD_HOSTS = [
    *(
        "",
        "evil.example",
        "evil.example:8484",
        "localhost.evil.example",
        "localhost:x",
        "localhost:",
    ),
    *("localhost:99999", "localhost@evil.example", "evil.example/localhost", "localhost evil"),
    *("localhost,evil.example", "http://localhost", "[::1", "::1", "[::2]", "[::1]x", "127.1"),
    *("0.0.0.0", "128.0.0.1", "2130706433", "0x7f000001", "127.0.0.1.nip.io", "a..b", "."),
    *("..", "-", "a" * 300, "x" * 64 + ".example", "xn--zzzzzzzz", "only.example", "[fd00::8]"),
    *("only.example:80", "only.example:08080x", "box.example.evil", "xbox.example", "[]", "[:::]"),
    *("localhost\t", " localhost", "local host", "localhost%00", "localhost#", "localhost?x"),
    *("\u00e9.example", "127.0.0.1:-1", "[::ffff:8.8.8.8]", "169.254.169.254"),
]
GOOD_ORIGINS = [
    *("http://localhost", "http://localhost:3000", "https://localhost", "HTTP://LocalHost:3000"),
    *("http://127.0.0.1:5173", "http://[::1]:8080", "https://app.example", "HTTPS://APP.example"),
    "tauri://localhost",
]
BAD_ORIGINS = [
    *("", "null", "https://evil.example", "http://localhost.evil.example", "http://evil.example"),
    *(
        "http://localhost@evil.example",
        "http://localhost:3000/path",
        "http://localhost/",
        "file://",
    ),
    *("localhost", "ftp://localhost", "https://app.example:444", "https://app.example.evil"),
    *("http://app.example", "http://localhost:x", "http://local host", "http://[::2]", "*"),
    *("http://localhost http://evil.example", "http://127.0.0.1.nip.io", "javascript://localhost"),
    "http://localhost\\@evil.example",
]
SERVER = {
    "allowed_hosts": ("box.example", "only.example:8080", "fd00::7"),
    "cors_origins": ("https://app.example", "tauri://localhost"),
}
ROUTES = [("GET", "/"), ("GET", "/health"), ("GET", "/v1/models"), ("POST", CHAT), ("GET", "/x")]


def serving() -> Front:
    return front(*SCRIPTS["text"], settings=settings_for(**SERVER))


async def ask(server: Front, method: str, path: str, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"messages": HELLO} if method == "POST" else None
    response = await getattr(server.client, method.lower())(path, headers=named, json=body)
    assert isinstance(response, Response)
    return response


def allowed_host(header: str, **server: object) -> bool:
    return HostList(ServerSettings.model_validate(SERVER | server)).allows(header, "192.168.1.5")


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_hosts_that_mean_this_machine_or_are_configured_are_served(host: str) -> None:
    assert allowed_host(host)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_no_other_host_is_served(host: str) -> None:
    assert not allowed_host(host)


@pytest.mark.parametrize("origin", GOOD_ORIGINS)
def test_origins_of_this_machine_or_configured_ones_may_call(origin: str) -> None:
    assert OriginList(SERVER["cors_origins"]).allows(origin)


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_no_other_origin_may_call(origin: str) -> None:
    assert not OriginList(SERVER["cors_origins"]).allows(origin)
    assert OriginList(["*"]).allows(origin)


def test_a_server_on_every_address_answers_to_the_one_it_was_reached_by() -> None:
    for host in ("0.0.0.0", "::"):
        assert allowed_host("192.168.1.5:8484", host=host, api_keys=("k",))
        assert not allowed_host("192.168.1.6:8484", host=host, api_keys=("k",))
    assert not allowed_host("192.168.1.5:8484")
    assert allowed_host("192.168.1.5:8484", host="192.168.1.5", api_keys=("k",))


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_is_closed_to_foreign_hosts_and_origins(method: str, path: str) -> None:
    server = serving()
    for host, origin in itertools.product(["localhost:1", "evil.example"], [*BAD_ORIGINS[1:6], ""]):
        headers = {"host": host} | ({"origin": origin} if origin else {})
        response = await ask(server, method, path, **headers)
        if host == "localhost:1" and not origin:
            assert response.status_code in (200, 404)
        else:
            assert response.status_code == 403
            assert (await error_of(response))["code"] == "forbidden"
            assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("host", ["a..b", "..", "x" * 64 + ".example", "\u00e9" * 70, ""])
async def test_a_host_that_routing_cannot_read_is_refused_in_the_envelope(host: str) -> None:
    response = await serving().get("/v1/models", host=host)
    assert response.status_code == 403
    assert (await error_of(response))["code"] == "forbidden"
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/v1/models", "/no/such/path"])
async def test_a_page_that_may_call_may_read_errors_too(path: str) -> None:
    response = await serving().get(path, origin="http://localhost:3000")
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "x-request-id" in response.headers["access-control-expose-headers"]
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_is_answered_before_the_key_is_asked_for() -> None:
    server = front(settings=settings_for(api_keys=("k",)))
    headers = {
        "origin": "http://localhost:3000",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
        "access-control-request-private-network": "true",
    }
    response = await server.client.options(CHAT, headers=headers)
    assert (response.status_code, await response.get_data()) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert response.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert response.headers["access-control-allow-private-network"] == "true"
    assert "POST" in response.headers["access-control-allow-methods"]


async def test_a_preflight_of_a_foreign_page_is_refused() -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    response = await serving().client.options(CHAT, headers=headers)
    assert response.status_code == 403
    assert "access-control" not in str(response.headers).lower()


async def test_an_allowed_origin_does_not_let_a_second_one_in() -> None:
    headers = Headers([("origin", "http://localhost"), ("origin", "https://evil.example")])
    response = await serving().client.get("/v1/models", headers=headers)
    assert response.status_code == 403


async def test_a_preflight_cannot_put_anything_into_our_headers() -> None:
    headers = {
        "origin": "http://localhost",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x;y: \u00e9",
    }
    response = await serving().client.options(CHAT, headers=headers)
    allowed = response.headers["access-control-allow-headers"]
    assert "authorization" in allowed
    assert ";" not in allowed


async def test_options_without_a_preflight_is_a_405_in_the_envelope() -> None:
    response = await serving().client.options(CHAT)
    assert isinstance(response, Response)
    assert response.status_code == 405
    assert (await error_of(response))["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"
