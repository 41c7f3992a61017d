"""What browsers and programs get at `/` and of the page's files, from the server's side."""

import re
from pathlib import Path

import pytest
from quart import Response

from mlxd.api.page import endpoints
from tests.api.support import CHAT, Front, bytes_of, front, settings_for
from tests.scripts import SCRIPTS

FOLDER = Path(endpoints.__file__).parent
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {"/page.css": "text/css", "/page.js": "text/javascript", "/favicon.ico": "image/svg+xml"}


def serving(**server: object) -> Front:
    return front(*SCRIPTS["text"], settings=settings_for(**server))


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def is_guarded(response: Response) -> bool:
    fields = response.headers
    return (
        fields["content-security-policy"],
        fields["x-content-type-options"],
        fields["referrer-policy"],
    ) == (POLICY, "nosniff", "no-referrer")


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;q=0.5", True),
        ("application/json;q=0.4, text/*;q=0.8", True),
        ("", False),
        ("*/*", False),
        ("application/json, text/plain, */*", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0, */*", False),
        ("text/htmlx", False),
        (";;,q=;text", False),
    ],
)
async def test_the_page_is_for_whoever_would_rather_have_html(accept: str, is_page: bool) -> None:
    server = serving()
    response = await server.get("/", **({"accept": accept} if accept else {}))
    assert response.status_code == 200
    assert "Accept" in response.headers["vary"]
    if is_page:
        assert response.content_type == "text/html; charset=utf-8"
        assert await bytes_of(response) == (FOLDER / "index.html").read_bytes()
        assert is_guarded(response)
    else:
        assert await response.get_json() == {"object": "server", "name": "mlxd"}


async def test_head_has_the_headers_of_the_same_get() -> None:
    client = serving().client
    for path in ("/", "/api/hello", *FILES, "/openapi.json"):
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == 200
        for name in ("content-type", "content-length", "etag", "vary"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    page = await client.head("/", headers={"accept": BROWSER})
    assert page.content_type == "text/html; charset=utf-8"


@pytest.mark.parametrize(("path", "media_type"), FILES.items())
async def test_files_are_guarded_and_asked_for_anew(path: str, media_type: str) -> None:
    server = serving()
    response = await server.get(path)
    assert response.content_type.partition(";")[0] == media_type
    assert is_guarded(response)
    assert response.headers["cache-control"] == "no-cache"
    again = await server.get(path, if_none_match=response.headers["etag"])
    assert (again.status_code, await bytes_of(again)) == (304, b"")
    other = await server.get(path, if_none_match='"another"')
    assert other.status_code == 200


async def test_docs_lead_to_the_routes() -> None:
    response = await serving().get("/docs")
    assert (response.status_code, response.headers["location"]) == (302, "/#routes")
    assert 'id="routes"' in text_of("index.html")


async def test_without_the_page_browsers_get_what_programs_get() -> None:
    server = serving(page=False)
    for path in ("/", "/docs", "/api/hello"):
        response = await server.get(path, accept=BROWSER)
        assert await response.get_json() == {"object": "server", "name": "mlxd"}
    assert (await server.get("/page.js")).status_code == 404
    assert (await server.get("/favicon.ico")).status_code == 200
    assert (await server.get("/openapi.json")).status_code == 200


async def test_the_page_needs_no_key_and_gives_nothing_away_that_does() -> None:
    server = serving(api_keys=("a-secret-key",))
    for path in ("/", *FILES, "/openapi.json"):
        assert (await server.get(path, accept=BROWSER)).status_code == 200
    assert await (await server.get("/health")).get_json() == {"status": "ok"}
    for path in ("/v1/models", "/page", "/page.html", "/index.html", "/page.js/..", "/docs/x"):
        assert (await server.get(path, accept=BROWSER)).status_code == 401, path
    told = await (await server.get("/health", authorization="Bearer a-secret-key")).get_json()
    assert [each["base_path"] for each in told["apis"]] == ["/v1", "/v1", "", "", ""]
    assert told["version"]


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", *FILES])
async def test_a_host_or_a_site_that_is_not_served_gets_no_page(path: str) -> None:
    server = serving()
    assert (await server.get(path, accept=BROWSER, host="evil.example")).status_code == 403
    assert (await server.get(path, origin="https://evil.example")).status_code == 403
    assert (await server.get(path, accept=BROWSER, host="localhost:8484")).status_code < 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_files_can_only_be_read(method: str) -> None:
    for path in ("/", "/page.js", "/openapi.json"):
        response = await serving().client.open(path, method=method)
        assert response.status_code == 405


def test_the_page_is_small() -> None:
    assert (
        sum(len(text_of(name).encode()) for name in ("index.html", "page.css", "page.js")) < 40_000
    )
    assert len(text_of("icon.svg")) < 300


def test_the_page_has_no_script_or_style_of_its_own_and_names_no_other_host() -> None:
    page = text_of("index.html")
    assert re.findall(r"<script[^>]*>[^<]+|<style|\son\w+=|\sstyle=|javascript:", page) == []
    assert set(re.findall(r'(?:src|href)="([^"]+)"', page)) <= {
        *("favicon.ico", "page.css", "page.js", "openapi.json", "#prompt"),
    }
    for name in ("index.html", "page.css", "page.js"):
        assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.", text_of(name)) == []
    assert "@import" not in text_of("page.css")
    assert "url(" not in text_of("page.css")


def test_the_script_makes_no_html_of_text_and_keeps_nothing() -> None:
    makes_html = r"(?:inner|outer)HTML|insertAdjacent|document\.write|DOMParser|Fragment\(|eval\("
    keeps = r"localStorage|sessionStorage|indexedDB|cookie"
    assert re.findall(f"{makes_html}|{keeps}|Function\\(", text_of("page.js")) == []


async def test_the_page_calls_nothing_that_web_pages_may_not() -> None:
    called = set(re.findall(r'fetch\("([^"]+)"', text_of("page.js")))
    assert called == {"health", "v1/responses"}
    server = serving()
    for origin in ("http://localhost:8484", "http://127.0.0.1:8484"):
        assert (await server.get("/admin/status", origin=origin)).status_code == 403
        assert (await server.get(CHAT, origin=origin)).status_code == 405
