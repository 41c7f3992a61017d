"""A program that puts responses as fast as it can, and says which ones are put."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from mlxd.store.conversations import ConversationStore
from tests.store.support import ME, opened, turn

WRITERS = 4


async def write(store: ConversationStore, talk: str, name: str) -> None:
    """A chain, and every other time something for the conversation, until the end."""
    last = ""
    for number in count():
        each = f"{name}_{number}"
        if number % 2:
            await store.put_response(turn(each, conversation=talk))
        else:
            await store.put_response(turn(each, previous=last))
            last = each
        sys.stdout.write(f"{each}\n")
        sys.stdout.flush()


async def main(folder: Path, name: str) -> None:
    async with opened(folder) as store:
        talk = await store.create_conversation(ME, metadata=b"{}", items=())
        sys.stdout.write(f"{talk.id}\n")
        sys.stdout.flush()
        names = [f"{name}_{number}" for number in range(WRITERS)]
        await asyncio.gather(*(write(store, talk.id, each) for each in names))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
