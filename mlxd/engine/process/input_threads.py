"""The engine process's two helper threads: one reads the socket, one prepares prompts.

Neither touches an MLX object: they work on text and token ids and hand the rest to the main thread.
"""

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxd.engine.grammar.constrainer import Constrainer, SteeringRecipe
from mlxd.engine.models.cache_cost import CacheCost
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.protocol import (
    Accepted,
    Answered,
    Cancel,
    Configure,
    Count,
    FrameReader,
    Load,
    Reconfigure,
    Refused,
    Reply,
    Shutdown,
    Submit,
    Unload,
    decode_command,
    encode,
)
from mlxd.errors import InternalError, MlxdError, OutOfMemory

READ_BYTES = 1 << 20
MB = 1e6

log = logging.getLogger(__name__)


class EngineSocket:
    """The sending side of the socket; whole frames from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        """Send one frame; without a server there is nothing left to do but end."""
        try:
            with self._lock:
                self._connection.sendall(encode(reply))
        except OSError:
            # Not `sys.exit`, which ends only the thread that calls it.
            os._exit(0)


@dataclass(frozen=True)
class TokenizedPrompt:
    """A submission that is ready for the scheduler."""

    command: Submit
    prompt: Prompt
    recipe: SteeringRecipe | None = None


@dataclass(frozen=True)
class WaitingPrompt:
    """A command that waits for its model to be loaded, `requested` at that time."""

    command: Submit | Count
    requested: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Deferred:
    """What another thread wants to be done by the main thread, which alone touches MLX."""

    run: Callable[[], None]


Command = Cancel | Load | Unload | Configure | Reconfigure | Shutdown
Job = TokenizedPrompt | WaitingPrompt | Deferred | Command
"""What the main thread takes on."""


class Preparer:
    """Turns submissions into token ids and counts tokens, in the order of arrival."""

    def __init__(self, server: EngineSocket, jobs: "queue.SimpleQueue[Job]") -> None:
        self._server = server
        self._jobs = jobs
        self._commands: queue.SimpleQueue[Submit | Count] = queue.SimpleQueue()
        self._makers: dict[str, tuple[PromptBuilder, Constrainer]] = {}
        self._rooms: dict[str, tuple[CacheCost, int]] = {}
        self._live: dict[int, str] = {}
        self._live_lock = threading.Lock()
        self._preparing = False

    def put(self, command: Submit | Count) -> None:
        """Queue a new command."""
        with self._live_lock:
            self._live[command.id] = command.request.model
        self._commands.put(command)

    def again(self, command: Submit | Count) -> None:
        """Queue a command whose model is loaded by now."""
        self._commands.put(command)

    @property
    def more_to_come(self) -> bool:
        """Whether commands are being prepared, or wait for it."""
        return self._preparing or not self._commands.empty()

    def drop(self, command_id: int) -> None:
        """Whatever `command_id` was, nobody waits for it any more."""
        with self._live_lock:
            self._live.pop(command_id, None)

    def is_live(self, command_id: int) -> bool:
        """Whether the caller still waits for `command_id`."""
        with self._live_lock:
            return command_id in self._live

    def model_of(self, command_id: int) -> str:
        """The model that a command is for; empty when nobody waits for it."""
        with self._live_lock:
            return self._live.get(command_id, "")

    def add_model(self, name: str, builder: PromptBuilder, constrainer: Constrainer) -> None:
        """From now on, prepare prompts for `name`."""
        self._makers[name] = builder, constrainer

    def set_room(self, name: str, cost: CacheCost, nbytes: int) -> None:
        """What KV caches of `name` cost, and how many bytes there are for all of them."""
        self._rooms[name] = cost, nbytes

    def remove_model(self, name: str) -> None:
        """Prompts for `name` wait until it is added again."""
        self._makers.pop(name, None)

    def run(self) -> None:
        """The thread's loop."""
        while True:
            self._preparing = False
            command = self._commands.get()
            self._preparing = True
            if not self.is_live(command.id):
                continue
            # The model may be unloaded meanwhile: what is taken here is enough to go on.
            makers = self._makers.get(command.request.model)
            if makers is None:
                self._jobs.put(WaitingPrompt(command))
                continue
            try:
                self._prepare(command, *makers)
            except MlxdError as error:
                self.refuse(command.id, error)
            except BaseException:  # What one request's preparation raises must not cost the others.
                log.exception("preparing a prompt failed")
                self.refuse(command.id, InternalError("preparing the prompt"))

    def refuse(self, command_id: int, error: MlxdError) -> None:
        """Answer a command with an error and forget it."""
        self.drop(command_id)
        self._server.send(Refused(command_id, error.report()))

    def _prepare(
        self, command: Submit | Count, builder: PromptBuilder, constrainer: Constrainer
    ) -> None:
        if isinstance(command, Count):
            self.drop(command.id)
            self._server.send(Answered(command.id, builder.count(command.request)))
            return
        prompt = builder.build(command.request)
        # The scheduler lets one row in whether it fits or not, so it is checked here.
        size = len(prompt.tokens)
        cost, room = self._rooms[command.request.model]
        if cost.row(size) > room:
            raise OutOfMemory(
                f"the KV cache of a prompt of {size} tokens takes {cost.row(size) / MB:,.1f} MB, "
                f"and there are {room / MB:,.1f} MB, enough for {cost.capacity(room)} tokens"
            )
        recipe = constrainer.recipe(command.request, prompt)
        # Compiling a grammar can take long enough for the caller to leave.
        if self.is_live(command.id):
            left_out = builder.unmet_wishes(command.request, closes=constrainer.can_constrain) + (
                recipe.left_out if recipe else ()
            )
            self._server.send(Accepted(command.id, size, prompt.opens_reasoning, left_out))
            self._jobs.put(TokenizedPrompt(command, prompt, recipe))


def read_commands(
    connection: socket.socket, jobs: "queue.SimpleQueue[Job]", preparer: Preparer
) -> None:
    """The reading thread's loop: ends the process when the server is gone or talks nonsense."""
    reader, saves = FrameReader(), False
    try:
        while data := connection.recv(READ_BYTES):
            for body in reader.feed(data):
                match decode_command(body):
                    case Submit() | Count() as command:
                        preparer.put(command)
                    case Shutdown() if not saves:
                        os._exit(0)
                    case Cancel() as command:
                        # At once, so that what nobody waits for any more is not prepared first.
                        preparer.drop(command.id)
                        jobs.put(command)
                    case Configure() as command:
                        saves = command.limits.prefix_disk is not None
                        jobs.put(command)
                    case Reconfigure() | Load() | Unload() | Shutdown() as command:
                        jobs.put(command)
    except (OSError, ValueError):
        log.exception("the supervisor's socket broke")
        os._exit(1)
    os._exit(0)
