"""What is sent to the engine process once, and what waits for its answer."""

import asyncio

from mlxd.engine.protocol import Count, Load, Submit, Unload, encode
from mlxd.errors import InvalidBody, MlxdError, revive


class Completion:
    """Something that is done once, well or with an error, for whoever waits."""

    def __init__(self) -> None:
        self._done = asyncio.Event()
        self._error: MlxdError | None = None

    def complete(self, error: MlxdError | None = None) -> None:
        """It is done; only the first time counts."""
        if not self._done.is_set():
            self._error = error
            self._done.set()

    async def wait(self) -> None:
        """Wait for it; raises the error it ended with."""
        await self._done.wait()
        if self._error is not None:
            # A new object each time: Python adds to the traceback of one that is raised again.
            raise revive(self._error.report())


class Envelope:
    """A command as bytes until it is sent, once.

    Raises `InvalidBody` for a request that can't be sent: an integer past 64 bits, half a surrogate
    pair. That has to show here, where it costs the one request.
    """

    def __init__(self, command: Submit | Count | Load | Unload) -> None:
        try:
            self._frame = encode(command)
        except (ValueError, OverflowError, TypeError) as error:
            raise InvalidBody("a value in it has no portable form") from error
        self.sent = False
        self.sent_at = 0.0
        self.postponed = False
        """The engine waits with it until there is memory for its model."""

    def open(self) -> bytes:
        """The frame, which is sent now."""
        assert not self.sent, "what a lost process had is failed, never sent to the next one"
        # Kept no longer than needed: it holds all images and messages of the request.
        frame, self._frame = self._frame, b""
        self.sent = True
        self.sent_at = asyncio.get_running_loop().time()
        return frame


class EngineCall:
    """A command that is answered once."""

    def __init__(self, command: Count | Load | Unload) -> None:
        self.number = command.id
        self.command = command
        self.envelope = Envelope(command)
        self._completion = Completion()
        self._value = 0

    @property
    def model(self) -> str:
        """The model it is about."""
        if isinstance(self.command, Count):
            return self.command.request.model
        return self.command.model

    @property
    def counts(self) -> bool:
        """Whether the engine answers it beside the step loop."""
        return isinstance(self.command, Count)

    def answer(self, value: int) -> None:
        self._value = value
        self._completion.complete()

    def fail(self, error: MlxdError) -> None:
        self._completion.complete(error)

    async def result(self) -> int:
        """The answer; raises what the engine, or its end, made of the command."""
        await self._completion.wait()
        return self._value
