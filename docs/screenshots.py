"""Makes the pictures of the README from a real run: `python -m docs.screenshots [top] [chat]`.

A server with the demo model answers a few clients; the apps look at it without a terminal.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from textual.app import App
from textual.pilot import Pilot

from bench.processes import MLXD, serving
from mlxd import admin_token
from mlxd.engine.model_files.library import locate
from mlxd.tui.chat.app import ChatApp
from mlxd.tui.client import ServerClient
from mlxd.tui.terminal import Terminal
from mlxd.tui.top.app import TopApp

IMAGES = Path(__file__).resolve().parent / "images"
# Few at a time, so that there is a queue to be seen.
CONFIG = """
[models.demo]
source = "demo"
[engine]
max_batch = 5
"""
PATIENCE = 240.0
"""Seconds until the model must have done what a picture waits for."""
TRAFFIC = 75.0
"""Seconds of work before the dashboard's picture, so that its charts have something to show."""
TOPICS = ("a lighthouse", "sourdough bread", "tides", "a clockmaker", "glass", "bees", "maps")
AGENTS = ("notebook/1.4", "editor/0.9", "agent/2.0", "nightly-eval/3.1")
QUESTION = "Explain in two short paragraphs why the sky is blue."

Opened = Callable[[Pilot[Any]], Awaitable[None]]


def main() -> None:
    if locate("demo") is None:
        raise SystemExit("the demo model is not here: mlxd pull demo")
    IMAGES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or list(PICTURES)
    with tempfile.TemporaryDirectory() as folder:
        config, token = Path(folder) / "mlxd.toml", Path(folder) / "admin.json"
        config.write_text(CONFIG, encoding="utf-8")
        command = [*MLXD, "serve", "--config", str(config), "--log-level", "warning"]
        with serving("mlxd", command, {"MLXD_ADMIN__TOKEN_FILE": str(token)}) as server:
            server.wait_for_model()
            access = admin_token.find(f"http://127.0.0.1:{server.port}", token)
            if access is None:
                raise SystemExit("the server has left no admin token")
            for name in wanted:
                asyncio.run(PICTURES[name](access))


async def top(access: admin_token.Access) -> None:
    """The dashboard while several programs ask."""

    app = TopApp(lambda: ServerClient(access.url, access.token), Terminal())

    async def opened(pilot: Pilot[Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            await pilot.pause(TRAFFIC)
            while not (app.status and app.status.waiting and len(app.status.running) > 3):
                await pilot.pause(0.1)

    clients = [asyncio.create_task(keep_asking(access.url, number)) for number in range(7)]
    try:
        await picture("top", app, (120, 36), opened)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def chat(access: admin_token.Access) -> None:
    """A question and its answer."""

    app = ChatApp(ServerClient(access.url), terminal=Terminal())

    async def opened(pilot: Pilot[Any]) -> None:
        await pilot.pause(1.0)
        await pilot.press(*QUESTION, "enter")
        async with asyncio.timeout(PATIENCE):
            await pilot.pause(1.0)
            while app.busy:
                await pilot.pause(0.1)
        await pilot.pause(1.0)

    await picture("chat", app, (100, 30), opened)


PICTURES = {"top": top, "chat": chat}


async def picture(name: str, app: App[Any], size: tuple[int, int], opened: Opened) -> None:
    """Open the app, let it come to what is worth seeing, and write its picture."""
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        file = IMAGES / f"{name}.svg"
        file.write_text(app.export_screenshot(title=f"mlxd {name}"), encoding="utf-8")
    print(f"{file.relative_to(Path.cwd())}: {file.stat().st_size / 1000:.0f} KB")


async def keep_asking(url: str, number: int) -> None:
    """One program that asks again and again, in a conversation that grows."""
    messages: list[dict[str, str]] = []
    headers = {"user-agent": AGENTS[number % len(AGENTS)]}
    async with httpx.AsyncClient(timeout=None, trust_env=False, headers=headers) as client:
        for turn in range(1000):
            topic = TOPICS[(number + turn) % len(TOPICS)]
            asked = f"{'Tell me more. ' * (3 + 4 * number)}Write about {topic}."
            messages.append({"role": "user", "content": asked})
            body = {"model": "demo", "messages": messages[-5:], "max_tokens": 60 + 30 * number}
            with suppress(httpx.HTTPError, KeyError):
                answer = await client.post(f"{url}/v1/chat/completions", json=body)
                messages.append(answer.json()["choices"][0]["message"])
            await asyncio.sleep(0.3 * number)


if __name__ == "__main__":
    main()
