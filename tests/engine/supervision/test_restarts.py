"""The restart loop, one process after the other, on its own."""

from collections.abc import Callable
from pathlib import Path

from mlxd.engine.protocol import Configure, Reply
from mlxd.engine.supervision.restarts import Loss, RestartLoop
from mlxd.errors import EngineCrashed, EngineStalled
from tests.engine.supervision.support import AT_ONCE, MODELS, Lab, leaving_nothing
from tests.engine.support import until


class Impatient:
    """A listener that does something at every first reply of a process."""

    def __init__(self, folder: Path, act: Callable[[RestartLoop], None]) -> None:
        self.restart_loop = RestartLoop(Lab(folder).command, AT_ONCE, self)
        self.replies = 0
        self.losses: list[Loss] = []
        self._act = act

    def spawned(self) -> None:
        self.restart_loop.send(Configure(MODELS, preload="small"))

    def received(self, reply: Reply) -> None:
        self.replies += 1
        self._act(self.restart_loop)

    def lost(self, error: Loss, *, on_purpose: bool) -> None:
        self.losses.append(error)

    async def lose(self, processes: int) -> tuple[list[Loss], int]:
        """Let so many processes come and go; how they were lost, and the replies they gave."""
        async with leaving_nothing():
            self.restart_loop.start()
            await until(lambda: len(self.losses) >= processes)
            seen = list(self.losses), self.replies
            await self.restart_loop.close(0)
        return seen


async def test_a_bug_of_the_server_replaces_the_process_too(tmp_path: Path) -> None:
    def stumble(_: RestartLoop) -> None:
        raise RuntimeError("a bug")

    losses, _ = await Impatient(tmp_path, stumble).lose(2)
    reasons = {error.reason for error in losses if isinstance(error, EngineCrashed)}
    assert reasons == {"the server failed to read it"}


async def test_a_process_that_was_given_up_is_not_listened_to(tmp_path: Path) -> None:
    def give_up(restart_loop: RestartLoop) -> None:
        restart_loop.replace(EngineStalled(seconds=1.0))

    losses, replies = await Impatient(tmp_path, give_up).lose(2)
    assert replies == len(losses)
