"""Chromium without a window, driven over its own protocol."""

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.api.support import LIMIT

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
"""The program, where there is one."""
FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"),
    # Tests may run as root, and what they load is our own.
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
LISTENS = b"DevTools listening on "
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39}


class Tab:
    """A page of a browser, with all that it has requested and complained of."""

    def __init__(self, socket: ClientConnection) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.session = ""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        """Take in what the browser says, until it is closed."""
        async for message in self._socket:
            said = json.loads(message)
            if (waiting := self._waiting.pop(said.get("id", 0), None)) and not waiting.done():
                waiting.set_result(said)
            self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, method: str, fields: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(fields["request"]["url"])
            case "Log.entryAdded" if fields["entry"]["source"] != "network":
                self.complaints.append(fields["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(fields["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(fields["args"]))

    async def send(self, method: str, **fields: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": fields}
        session = {"sessionId": self.session} if self.session else {}
        await self._socket.send(json.dumps(message | session))
        async with asyncio.timeout(LIMIT):
            said = await self._waiting[number]
        assert "error" not in said, said
        return said["result"]

    async def value(self, expression: str) -> Any:
        """What JavaScript makes of `expression`, a promise being awaited."""
        result = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until `condition` holds in the page."""
        wait = f"if ({condition}) done(); else setTimeout(look, 10);"
        try:
            await self.value(f"new Promise(done => {{ const look = () => {{ {wait} }}; look(); }})")
        except TimeoutError:
            text = await self.value("document.body.innerText")
            raise AssertionError(f"never became true: {condition}\n{text}") from None

    async def press(self, key: str, modifiers: int = 0) -> None:
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        await self.send(
            "Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **fields, **text
        )
        await self.send("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **fields)

    async def write(self, text: str) -> None:
        """Type into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def look_like(self, width: int, height: int, scheme: str = "light") -> None:
        """Give the page a size, and `light` or `dark` colours."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.send("Emulation.setEmulatedMedia", features=[feature])

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[str]:
    """A running browser with its files in `folder`; the address of its socket."""
    assert FOUND, "there is no Chromium here"
    process = await asyncio.create_subprocess_exec(
        *(FOUND, *FLAGS, f"--user-data-dir={folder}", "about:blank"),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(LIMIT):
            while not (line := await process.stderr.readline()).startswith(LISTENS):
                assert line, "the browser ended at once"
        emptying = asyncio.create_task(process.stderr.read())
        yield line.removeprefix(LISTENS).decode().strip()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await emptying


@asynccontextmanager
async def tab(address: str) -> AsyncIterator[Tab]:
    """A new page, closed at the end."""
    async with connect(address, max_size=None, proxy=None) as socket:
        page = Tab(socket)
        reading = asyncio.create_task(page.read())
        target = (await page.send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await page.send("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            await page.send(f"{domain}.enable")
        yield page
        await page.send("Page.close")
    await reading
