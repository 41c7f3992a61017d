"""OpenAI's own client against the real listener, for every test that talks through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
from openai import AsyncOpenAI

from tests.api.support import LIMIT, Front, listening


@asynccontextmanager
async def talking(server: Front, key: str = "any", base: str = "/v1") -> AsyncIterator[AsyncOpenAI]:
    """The client, which does not retry and does not wait."""
    # Without certificates to load, which takes longer than the tests.
    plain = openai.DefaultAsyncHttpxClient(verify=False, timeout=LIMIT)
    async with (
        asyncio.timeout(LIMIT),
        listening(server.app) as url,
        AsyncOpenAI(
            base_url=f"{url}{base}", api_key=key, max_retries=0, http_client=plain
        ) as client,
    ):
        yield client
