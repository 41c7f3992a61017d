"""Commands and replies on the engine's socket: length-prefixed MessagePack of typed structs.

A frame is a 4-byte big-endian length and one tagged struct. The server sends `Command`s, the engine
process `Reply`s. Per decode step the engine sends one `Step` with all rows.
"""

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec

from mlxd.engine.interface import Markup
from mlxd.errors import ErrorReport
from mlxd.events import Timings, TokenLogprob
from mlxd.messages import GenerateRequest, ReasoningMode, Sampling, Scalar, StopRepetition
from mlxd.status import AnswerFormat, EngineFigures, ModelState, RowFigures

MAX_FRAME = 256 * 1024 * 1024
"""Bytes; a longer frame means the peer is broken."""

FREE_BYTES = 10 * 1024**3
"""No prefix is written while the disk has fewer bytes free."""
SAVE_SECONDS = 3.0
"""How long the process may go on to write prefixes to the disk when it is told to end."""

_LENGTH = struct.Struct(">I")


class ModelSpec(msgspec.Struct, frozen=True):
    """A model as the configuration describes it, defaults resolved.

    `sampling` is what the configuration says; what it leaves open is said by the model's own files,
    and then by `usual_sampling`. It is unloaded after `idle_seconds` without a request (0: never);
    one that is `pinned` leaves for no other model.
    """

    id: str
    source: str
    aliases: tuple[str, ...] = ()
    context_length: int | None = None
    max_tokens: int = 4096
    sampling: Sampling = Sampling()
    usual_sampling: Sampling = Sampling()
    reasoning_mode: ReasoningMode = "separate"
    template_args: dict[str, Scalar] = {}
    tool_format: str | None = None
    reasoning_tags: tuple[str, str] | None = None
    dtype: str | None = None
    kv_bits: Literal[8, 4] | None = None
    trust_remote_code: bool = False
    stop_repetition: StopRepetition = "tools"
    idle_seconds: float = 0.0
    pinned: bool = False


class PrefixDiskLimits(msgspec.Struct, frozen=True):
    """Prefixes are kept on the disk too: where, and how many bytes of them at once and in a day.

    What leaves memory is written, and all that memory has after `idle_seconds` without a request;
    nothing while the disk has less than `free_bytes` free.
    """

    path: str
    bytes: int
    daily_bytes: int
    idle_seconds: float = 30.0
    free_bytes: int = FREE_BYTES


class KeyShare(msgspec.Struct, frozen=True):
    """What an API key may take: its weight beside other keys, its rows in a batch at most, and the
    tokens that are computed for it in a minute."""

    name: str = ""
    weight: float = 1.0
    max_rows: int | None = None
    tokens_per_minute: int | None = None


class EngineLimits(msgspec.Struct, frozen=True):
    """How much the engine may take on. Seconds and bytes; 0 bytes of memory means "measure".

    Without `prefix_cache_bytes` prefixes get what weights and running rows leave.
    With `exact_history` prompts go on from earlier answers in the tokens in which they were said.
    `wired` sets the wired limit of a Mac once, which else is left alone.
    `swap_patience` is how long a model may get new requests while another waits for its memory.
    `keys` are by the short hash that is a `Source.key`.
    """

    max_batch: int = 32
    max_queue: int = 64
    prefill_budget: float = 0.25
    decode_share: float = 0.34
    prefix_cache_bytes: int | None = None
    exact_history: bool = True
    memory_bytes: int = 0
    wired: bool = False
    request_seconds: float = 1800.0
    swap_patience: float = 5.0
    prefix_disk: PrefixDiskLimits | None = None
    keys: dict[str, KeyShare] = {}


class LoadCrash(msgspec.Struct, frozen=True):
    """A process died or hung while it loaded a model; `files` says how its files were."""

    files: str
    reason: str


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """The first command; `preload` is loaded at once.

    `crashes` has the models that earlier processes were lost by; none is loaded from such files.
    """

    models: tuple[ModelSpec, ...]
    limits: EngineLimits = EngineLimits()
    preload: str | None = None
    crashes: dict[str, LoadCrash] = {}


class Reconfigure(msgspec.Struct, frozen=True, tag="reconfigure"):
    """What is configured from now on.

    A loaded model takes of it what needs no loading; `limits` count from the next load. Models that
    are left out of the configuration are still among `models`, for the requests that they have.
    """

    models: tuple[ModelSpec, ...]
    limits: EngineLimits


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Prepare, queue and run a request; `id` is the supervisor's number for it."""

    id: int
    request: GenerateRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Forget a submission in whatever state it is; unknown ids are ignored."""

    id: int


class Count(msgspec.Struct, frozen=True, tag="count"):
    """Count the prompt tokens of a request."""

    id: int
    request: GenerateRequest


class Load(msgspec.Struct, frozen=True, tag="load"):
    id: int
    model: str


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    id: int
    model: str


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the process now; the supervisor has drained."""


Command = Configure | Reconfigure | Submit | Cancel | Count | Load | Unload | Shutdown


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process is up and takes commands; models may still be loading."""

    device: str
    blas: str
    memory_limit: int


class ModelChanged(msgspec.Struct, frozen=True, tag="model_changed"):
    """A model's state; sent at every change, and with its `progress` (0 to 1) while it loads.

    `files` comes when it begins to load: how its files are, for a `LoadCrash`. `unbatched` is that
    of `ModelInfo`, `sampling` what requests get that leave it open; both come when it is loaded.
    """

    model: str
    state: ModelState
    context_length: int = 0
    bytes: int = 0
    reason: str = ""
    markup: Markup = Markup()
    progress: float = 0.0
    files: str = ""
    unbatched: str = ""
    sampling: Sampling = Sampling()
    answers: AnswerFormat | None = None


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """A submission is validated, tokenised and queued.

    `opens_reasoning` says that the prompt itself ends inside a reasoning tag, `left_out` which
    places of the request are not enforced.
    """

    id: int
    prompt_tokens: int
    opens_reasoning: bool = False
    left_out: tuple[str, ...] = ()


class Postponed(msgspec.Struct, frozen=True, tag="postponed"):
    """A command has to wait until other models leave the memory that its model needs."""

    id: int


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """`Count`, `Load` or `Unload` is done; `value` is the count."""

    id: int
    value: int = 0


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Any command with an id failed, before or after it was accepted."""

    id: int
    error: ErrorReport


class PrefillRow(msgspec.Struct, frozen=True, array_like=True):
    """More of one submission's prompt is computed."""

    id: int
    figures: RowFigures


WaitReason = Literal["batch", "memory", "prefix", "disk", "key"]


class WaitRow(msgspec.Struct, frozen=True, array_like=True):
    """Why an accepted submission is still in the queue; told when it is another reason.

    `batch`: all places in it are taken. `memory`: there is no room for its KV cache. `prefix`:
    another submission is computing the beginning of its prompt. `disk`: that is being read. `key`:
    its API key has as many rows as it may.
    """

    id: int
    reason: WaitReason


class EndRow(msgspec.Struct, frozen=True, array_like=True):
    """Why a row ended: `stop` (end token), `stop_sequence`, `length` or `repetition`.

    `window` says that its length was bounded by the model's window.
    """

    reason: str
    stop_sequence: str | None = None
    timings: Timings = Timings()
    window: bool = False


class DecodeRow(msgspec.Struct, frozen=True, array_like=True):
    """What one step brought to one row.

    `text` is text that is final: never half a character, never part of a stop string, and with
    `end` all that was held back. `tokens` counts the tokens generated, also those without text.
    `logprobs` are those of the tokens whose text is now known, in order, without the end token.
    """

    id: int
    figures: RowFigures
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    end: EndRow | None = None


class Step(msgspec.Struct, frozen=True, tag="step"):
    """One round of the step loop; `seconds` is the time of the decode step."""

    prefill: tuple[PrefillRow, ...] = ()
    decode: tuple[DecodeRow, ...] = ()
    seconds: float = 0.0
    waiting: tuple[WaitRow, ...] = ()


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """Sent about once a second while working, and when going idle."""

    figures: EngineFigures = EngineFigures()


Reply = Ready | ModelChanged | Postponed | Accepted | Answered | Refused | Step | Stats

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Command | Reply) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames; feed it whatever arrived."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that `data` completes; raises `ValueError` past `MAX_FRAME`."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise ValueError(f"frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body


def decode_command(body: bytes) -> Command:
    """A frame's body as the engine process reads it."""
    return _commands.decode(body)


def decode_reply(body: bytes) -> Reply:
    """A frame's body as the server reads it."""
    return _replies.decode(body)
