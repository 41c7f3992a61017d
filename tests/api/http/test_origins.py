"""Which Host and Origin headers are served: no page of another site gets through."""

import itertools

import pytest
from quart import Response
from werkzeug.datastructures import Headers

from mlxd.api.http.origins import HostList, OriginList
from mlxd.api.http.refusals import LINES, RefusalLog
from mlxd.api.http.request_log import Record
from mlxd.config.settings import ServerSettings
from tests.api.support import CHAT, HELLO, Front, error_of, front, settings_for
from tests.scripts import SCRIPTS

GOOD_HOSTS = [
    *("localhost", "LOCALHOST", "localhost:8484", "localhost.:8484", "127.0.0.1", "127.0.0.1:1"),
    *("127.8.8.8:65535", "[::1]", "[::1]:8484", "[0:0:0:0:0:0:0:1]:80", "box.example"),
    *("BOX.example:8484", "only.example:8080", "[fd00::7]:99"),
    *("host.docker.internal", "host.docker.internal:8484", "HOST.Docker.Internal:1"),
    *("host.containers.internal:8484", "gateway.docker.internal", "host.orb.internal:80"),
    *("host.lima.internal", "my-box.internal", "host.docker.internal.:8484"),
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
    *("internal", "internal.example", "x.internal.example", "evilinternal", ".internal"),
    *("host.docker.internal.evil", "a..internal", "x.internal.localhost.evil", "internal:8484"),
    *("host.docker.internal, evil.example", "evil.example, host.docker.internal"),
    *("host.docker.internal@evil.example", "printer.local", "host.docker.internal/x"),
    *("\u00e9.example", "127.0.0.1:-1", "[::ffff:8.8.8.8]", "169.254.169.254"),
]
GOOD_ORIGINS = [
    *("http://localhost", "http://localhost:3000", "https://localhost", "HTTP://LocalHost:3000"),
    *("http://127.0.0.1:5173", "http://[::1]:8080", "https://app.example", "HTTPS://APP.example"),
    *("tauri://localhost", "app://notes", "app://obsidian.md", "APP://notes", "file://"),
    *("vscode-webview://1a2b3c4d", "vscode-file://vscode-app", "capacitor://localhost"),
    *("app://-", "tauri://app.example:1420"),
]
BAD_ORIGINS = [
    *("", "null", "https://evil.example", "http://localhost.evil.example", "http://evil.example"),
    *(
        "http://localhost@evil.example",
        "http://localhost:3000/path",
        "http://localhost/",
        "https://tauri.localhost.evil",
    ),
    *("localhost", "ftp://localhost", "https://app.example:444", "https://app.example.evil"),
    *("http://app.example", "http://localhost:x", "http://local host", "http://[::2]", "*"),
    *("http://localhost http://evil.example", "http://127.0.0.1.nip.io", "javascript://localhost"),
    *("http://localhost\\@evil.example", "capacitor://evil", "chrome-extension://abcdef"),
    *("moz-extension://abcdef", "app:notes", "app://notes/x", "app://a b", "app://a@b", "apps://a"),
    *("xapp://a", "http://app://notes", "app://notes, http://evil.example", "vscode://x", "file:"),
    *("http://host.docker.internal", "https://app", "app://notes\n", "blob:app://notes"),
]
SERVER = {
    "allowed_hosts": ("box.example", "only.example:8080", "fd00::7"),
    "cors_origins": ("https://app.example", "custom://localhost"),
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


APP = "app://notes"
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/openai/v1/chat/completions"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_desktop_app_may_ask_and_read_answers_and_errors_of_every_dialect(
    path: str,
) -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(api_keys=("k",)))
    asks = {"origin": APP, "access-control-request-method": "POST"}
    preflight = await server.client.options(path, headers=asks)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, APP)
    for key, status in (("k", (200, 400)), ("wrong", (401,))):
        response = await server.client.post(
            path,
            json={"messages": HELLO, "input": "Hi", "max_tokens": 5, "model": "demo"},
            headers={"origin": APP, "authorization": f"Bearer {key}"},
        )
        assert response.status_code in status
        assert response.headers["access-control-allow-origin"] == APP


async def test_two_host_headers_are_none_that_is_served() -> None:
    headers = Headers([("Host", "localhost"), ("Host", "evil.example")])
    response = await serving().client.get("/v1/models", headers=headers)
    assert response.status_code == 403


def refused_lines(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    records = [each for each in caplog.records if each.name == "mlxd.request"]
    lines = [each.getMessage() for each in records if each.levelname == level]
    return [line for line in lines if "finish=Forbidden" in line]


async def test_the_log_says_what_was_refused_and_what_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="mlxd")
    server = serving()
    await server.get("/v1/models", host="host.example:8484")
    await server.get("/v1/models", origin='https://a"b.example/' + "x" * 200)
    await server.get("/v1/models", host="a..b")
    first, second, third = refused_lines(caplog, "INFO")
    assert 'finish=Forbidden host="host.example:8484" (add it to server.allowed_hosts)' in first
    assert 'origin="https://a\\"b.example/xxx' in second
    assert second.endswith('x" (server.cors_origins)')
    assert len(second.partition("origin=")[2]) < 140
    assert 'host="a..b" (add it' in third


async def test_refused_names_are_logged_a_few_times_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="mlxd")
    server = serving()
    for number in range(3 * LINES):
        await server.get("/v1/models", host=f"evil{number}.example")
    assert len(refused_lines(caplog, "INFO")) == LINES
    assert len(refused_lines(caplog, "DEBUG")) == 2 * LINES
    # What else goes wrong is logged as ever.
    await server.get("/no/such/path")
    assert "finish=RouteNotFound" in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelname == "INFO"


def test_after_a_while_refused_names_are_logged_again() -> None:
    now = [0.0]
    log = RefusalLog(lambda: now[0])
    muted = []
    for second in range(0, 180, 5):
        now[0] = second
        record = Record("req_1")
        log.origin(record, "http://evil.example\nfaked line \x1b[31m")
        assert record.refused.isprintable()
        muted.append(record.muted)
    for minute in range(3):
        assert muted[minute * 12 : minute * 12 + 12].count(False) == LINES


async def test_a_page_may_call_the_host_that_it_came_from_and_no_other() -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(allowed_hosts=("box.lan",)))
    own = {"host": "box.lan:8484", "origin": "http://Box.lan:8484"}
    answer = await server.post({"messages": HELLO}, **own)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://Box.lan:8484"
    for origin in ("http://box.lan", "http://box.lan:8485", "http://box.lan:8484.evil.example"):
        assert (
            await server.post({"messages": HELLO}, **own | {"origin": origin})
        ).status_code == 403
    # A name that only an attacker gave this machine is no host of ours, whatever it is equal to.
    evil = {"host": "evil.example:8484", "origin": "http://evil.example:8484"}
    assert (await server.post({"messages": HELLO}, **evil)).status_code == 403


@pytest.mark.parametrize("path", ["/v1/v1/chat/completions", "/v1/v1/messages", "/v1/v1/responses"])
async def test_a_base_url_with_one_version_too_many_is_served(path: str) -> None:
    server = front(*SCRIPTS["text"], settings=settings_for())
    body = {"messages": HELLO, "input": "Hi", "max_tokens": 5}
    response = await server.client.post(path, json=body)
    assert response.status_code in (200, 400)
    assert (await server.client.get("/v1/v1/models")).status_code == 200
    wrong = await server.client.post("/v1/v1/messages", json=[])
    assert (await wrong.get_json())["type"] == "error"
