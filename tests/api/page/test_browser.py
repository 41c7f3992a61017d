"""The page in a real browser, on the scripted engine: what people see and do."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from mlxd.api.app import create_app
from mlxd.config.settings import ServerSettings, Settings
from mlxd.dialects import DIALECTS
from mlxd.engine.scripted.answers import block
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.events import Finished
from mlxd.messages import GenerateRequest, Reasoning, Text
from mlxd.status import EngineStatus
from tests.api.page.browser import Tab, browser, tab
from tests.api.support import DEMO, listening
from tests.memory_store import MemoryStore
from tests.scripts import STARTED

pytestmark = [pytest.mark.process]

HOSTILE = (
    "<img src=x onerror=document.title='hacked'> **bold** `code`\n\n"
    "1. one\n2. two\n\n```js\n<script>document.title = 'hacked'</script>\n```\n[a](javascript:x)"
)
WORD = "document.getElementById('word').textContent"
DETAIL = "document.getElementById('detail').textContent"
LAST_NOTE = "[...document.querySelectorAll('.answer .note')].at(-1)?.textContent"
TOO_WIDE = """[...document.querySelectorAll("html, .card, .card > *")]
  .filter(each => each.clientWidth && each.scrollWidth > each.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 80))"""
FOCUS = "document.activeElement.id || document.activeElement.textContent"


def texts_of(request: GenerateRequest) -> list[str]:
    parts = (part for message in request.messages for part in message.parts)
    return [part.text for part in parts if isinstance(part, Text)]


AT_REST = replace(DEMO, id="other", aliases=(), state="unloaded")


class Actor(ScriptedEngine):
    """Plays what it is given, and says of itself what it is told to say."""

    def __init__(self) -> None:
        self.gate = Gate(asyncio.Event())
        self.state: dict[str, Any] = {}
        super().__init__(self._play, models=(DEMO, AT_REST))

    def _play(self, request: GenerateRequest) -> Iterator[ScriptItem]:
        question = texts_of(request)[-1]
        yield STARTED
        if question == "wait":
            yield from list(block(0, Text("so far")))[:-1]
            yield self.gate
        elif question == "hostile":
            yield from block(0, Reasoning("<b>thought</b>"))
            yield from block(1, Text(HOSTILE))
        else:
            yield from block(0, Text(f"{len(request.messages)} messages"))
        yield Finished("stop")

    def status(self) -> EngineStatus:
        return replace(super().status(), **self.state)


@dataclass
class Stage:
    """A served page, open in a tab."""

    engine: Actor
    store: MemoryStore
    url: str
    tab: Tab

    async def ask(self, text: str) -> None:
        await self.tab.value("document.getElementById('prompt').focus()")
        await self.tab.write(text)
        await self.tab.press("Enter")

    async def see(self, word: str, detail: str = "") -> None:
        await self.tab.until(f"{WORD} === {json.dumps(word)}")
        await self.tab.until(f"{DETAIL}.includes({json.dumps(detail)})")

    async def look(self) -> None:
        """Have the page ask the server at once, as when it is looked at again."""
        await self.tab.value("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.fixture(scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder: Path = tmp_path_factory.mktemp("browser")
    async with browser(folder) as found:
        yield found


@asynccontextmanager
async def stage(
    address: str, path: str = "/", dialects: tuple[str, ...] = tuple(DIALECTS), **server: Any
) -> AsyncIterator[Stage]:
    engine, store = Actor(), MemoryStore()
    settings = Settings(dialects=dialects, server=ServerSettings(**server))
    app = create_app(settings, engine, store=store)
    async with listening(app) as url, tab(address) as page:
        await page.open(url + path)
        yield Stage(engine, store, url, page)
        assert page.complaints == []
        assert {request.split("/")[2] for request in page.requests} == {url.split("/")[2]}


async def test_a_conversation_is_streamed_stopped_and_gone_on_with(address: str) -> None:
    async with stage(address) as page:
        await page.see("Ready")
        await page.ask("hello")
        await page.tab.until(f"{LAST_NOTE}?.startsWith('demo')")
        assert "1 messages" in await page.tab.value("document.getElementById('log').innerText")

        await page.ask("wait")
        await page.tab.until("document.getElementById('log').innerText.includes('so far')")
        assert page.engine.running == 1
        await page.tab.press("Escape")
        await page.tab.until(f"{LAST_NOTE} === 'Stopped.'")
        await page.engine.reaches(lambda engine: not engine.running)
        assert await page.tab.value(FOCUS) == "prompt"

        # What was stopped is part of it, though the server never stored it.
        await page.ask("again")
        await page.tab.until("document.getElementById('log').innerText.includes('5 messages')")
        said = texts_of(page.engine.requests[-1])
        assert said == ["hello", "1 messages", "wait", "so far", "again"]

        # Once it has expired, the page sends it from its own copy.
        page.store.responses.clear()
        await page.ask("and now")
        await page.tab.until("document.getElementById('log').innerText.includes('7 messages')")

        await page.tab.value("document.getElementById('new').click()")
        await page.ask("anew")
        await page.tab.until(f"{LAST_NOTE}?.startsWith('demo')")
        assert await page.tab.value("document.querySelectorAll('.answer').length") == 1
        assert "1 messages" in await page.tab.value("document.getElementById('log').innerText")


async def test_an_answer_stays_text_whatever_is_in_it(address: str) -> None:
    async with stage(address) as page:
        await page.see("Ready")
        await page.ask("hostile")
        await page.tab.until(f"{LAST_NOTE}?.startsWith('demo')")
        text = await page.tab.value("document.querySelector('.said').innerText")
        assert "<img src=x onerror=document.title='hacked'> bold code" in text
        assert "<script>document.title = 'hacked'</script>" in text
        assert "[a](javascript:x)" in text
        found = "document.querySelectorAll('.said :is(img, script, a, iframe)').length"
        assert await page.tab.value(found) == 0
        assert await page.tab.value("document.title") == "mlxd"
        for kind, count in (("strong", 1), ("code", 1), ("ol > li", 2), ("pre", 1)):
            found = f"document.querySelectorAll('.said {kind}').length"
            assert await page.tab.value(found) == count
        thought = "document.querySelector('.answer details').textContent"
        assert await page.tab.value(thought) == "Thinking<b>thought</b>"


async def test_the_state_is_shown_as_it_changes(address: str) -> None:
    loading = (replace(DEMO, state="loading", progress=0.4, context_length=0), AT_REST)
    damaged = replace(DEMO, state="failed", reason="its files are damaged")
    failed = (damaged, replace(AT_REST, state="failed"))
    states: list[tuple[str, str, dict[str, Any]]] = [
        ("Loading", "demo, 40 %", {"models": loading}),
        ("Failed", "its files are damaged", {"models": failed}),
        (
            "Restarting",
            "killed by signal 9",
            {"state": "restarting", "reason": "killed by signal 9"},
        ),
        ("Shutting down", "", {"state": "stopping"}),
        ("Ready", "", {}),
    ]
    async with stage(address) as page:
        await page.see("Ready")
        await page.tab.value("document.querySelector('[name=client]').focus()")
        for word, detail, state in states:
            page.engine.state = state
            await page.look()
            await page.see(word, detail)
            # Whoever is in the middle of choosing an example stays there.
            assert await page.tab.value("document.activeElement.value") == "curl"
        # What the table shows comes and goes with it.
        rows = "document.querySelector('#models tbody').innerText"
        assert "8,192" in await page.tab.value(rows)


async def test_a_server_that_goes_is_noticed_and_so_is_its_return(address: str) -> None:
    async with stage(address) as page:
        await page.see("Ready")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await page.tab.send("Network.emulateNetworkConditions", offline=True, **offline)
        await page.look()
        await page.see("No answer", "Trying again")
        assert await page.tab.value("document.title") == "No answer · mlxd"
        await page.tab.send("Network.emulateNetworkConditions", offline=False, **offline)
        await page.look()
        await page.see("Ready", "Back after")


async def test_a_key_is_asked_for_and_kept_nowhere(address: str) -> None:
    async with stage(address, api_keys=("a-secret-key",)) as page:
        await page.see("Key needed")
        assert await page.tab.value(FOCUS) == "key"
        assert not await page.tab.value("document.getElementById('chat').checkVisibility()")
        for wrong in ("wrong", "schlüssel"):
            await page.tab.write(wrong)
            await page.tab.press("Enter")
            await page.tab.until("document.getElementById('wrong').textContent")
        await page.tab.write("a-secret-key")
        await page.tab.press("Enter")
        await page.see("Ready")
        await page.ask("hello")
        await page.tab.until(f"{LAST_NOTE}?.startsWith('demo')")
        # Neither what is shown to be copied nor anything that outlives the page has it.
        assert "a-secret-key" not in await page.tab.value("document.documentElement.outerHTML")
        kept = "[localStorage.length, sessionStorage.length, document.cookie]"
        assert await page.tab.value(kept) == [0, 0, ""]
        assert "$MLXD_API_KEY" in await page.tab.value(
            "document.getElementById('snippet').textContent"
        )


async def test_everything_fits_and_can_be_reached_by_keyboard(address: str) -> None:
    async with stage(address, path="/docs") as page:
        await page.see("Ready")
        # `/docs` opens the routes, which are the widest there is.
        await page.tab.until("document.getElementById('routes').open")
        for width in (320, 900, 1600):
            for scheme in ("light", "dark"):
                await page.tab.look_like(width, 700, scheme)
                assert await page.tab.value(TOO_WIDE) == []
        await page.tab.open(page.url + "/")
        await page.see("Ready")
        reached, shown = [], []
        for _ in range(24):
            await page.tab.press("Tab")
            reached.append(await page.tab.value(FOCUS))
            shown.append(await page.tab.value("document.activeElement.matches(':focus-visible')"))
            if reached[-1] == "Routes":
                break
        assert {"Skip to the chat", "Copy", "log", "prompt", "temperature", "send", "Routes"} <= {
            *reached
        }
        assert all(shown)


async def test_examples_are_for_the_chosen_model_and_client(address: str) -> None:
    async with stage(address) as page:
        await page.see("Ready")
        snippet = "document.getElementById('snippet').textContent"
        assert f"{page.url}/v1/chat/completions" in await page.tab.value(snippet)
        await page.tab.value("document.querySelector('[name=client]').focus()")
        await page.tab.press("ArrowRight")
        await page.tab.until(f"{snippet}.includes('from openai import OpenAI')")
        change = "s => { s.value = 'other'; s.dispatchEvent(new Event('change', {bubbles: true})) }"
        await page.tab.value(f"({change})(document.querySelector('#connect select'))")
        await page.tab.until(f"{snippet}.includes('model=\"other\"')")
        copy = "document.querySelector('#connect .bar button')"
        await page.tab.value(f"{copy}.focus()")
        await page.tab.press("Enter")
        await page.tab.until(f"{copy}.textContent === 'Copied'")
        await page.ask("hello")
        await page.tab.until(f"{LAST_NOTE}?.startsWith('other')")


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
async def test_the_line_to_try_is_answered_whichever_api_is_on(address: str, dialect: str) -> None:
    async with stage(address, dialects=(dialect,), api_keys=("a-secret-key",)) as page:
        await page.see("Key needed")
        await page.tab.write("a-secret-key")
        await page.tab.press("Enter")
        await page.see("Ready")
        command = await page.tab.value("document.getElementById('snippet').textContent")
        _, url, *options = shlex.split(command.replace("\\\n", ""))
        *fields, flag, body = options
        assert (flag, set(fields[::2])) == ("-d", {"-H"})
        headers = dict(field.split(": ", 1) for field in fields[1::2])
        headers = {k: v.replace("$MLXD_API_KEY", "a-secret-key") for k, v in headers.items()}
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, headers=headers, content=body)
        assert (answer.status_code, answer.headers.get("x-mlxd-ignored")) == (200, None)
        assert answer.headers["content-type"].startswith("text/event-stream")
        shown = "document.getElementById('prompt').checkVisibility()"
        assert await page.tab.value(shown) == (dialect == "openai_responses")
