"""An engine process without a model, for the supervisor's tests: `fake_process.py FOLDER --fd N`.

The last user message of a request says what happens to it:

    say WORD …          the words come back, one a step
    pause WORD …        the same, once there is a file FOLDER/go
    postpone WORD …     the same, but accepted only then, and told to wait for memory until then
    wait WORD …         accepted at once, and told all reasons to wait until then; `wait on`:
                        nothing more is heard of it when it decodes
    endless             a word a step, for ever
    hold STATE          the request reaches the state, then nothing more is heard of it
    FAULT at STATE      the process does that when the request reaches the state
    refuse              refused at once; `refuse late`: when it decodes
    call                a tool call, then more words than anyone wants
    odd                 a second acceptance, an empty step, and prefill after decoding
    stray, misfit, bored    a row without acceptance, a refusal and an end of no known kind

States: submitted, queued, prefill, decode. Faults: kill, abort, raise, exit, fork (and exit),
garbage, stall, close, nonsense (a reply that makes no sense). `Count` answers what the last user
message asks for: `cancels` and `active` rows, else the words of the message; `noise TEXT` writes to
the output. Lines of the file FOLDER/faults are faults of whole processes, one each: `start FAULT`,
`load FAULT`, or an empty line.

A process that finds another one alive writes its number into FOLDER/crowded; one that is asked to
end leaves FOLDER/ended. The models `broken`, `stuck`, `huge` and `slow` load as they are called.
"""

import argparse
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, get_args

from msgspec.structs import replace

from mlxd.engine.interface import Markup
from mlxd.engine.protocol import (
    Accepted,
    Answered,
    Cancel,
    Command,
    Configure,
    Count,
    DecodeRow,
    EndRow,
    FrameReader,
    Load,
    ModelChanged,
    Postponed,
    PrefillRow,
    Ready,
    Reconfigure,
    Refused,
    Reply,
    Shutdown,
    Stats,
    Step,
    Submit,
    Unload,
    WaitReason,
    WaitRow,
    decode_command,
    encode,
)
from mlxd.errors import ContextTooLong, ErrorReport, ModelUnusable, OutOfMemory
from mlxd.events import CacheNote, Timings
from mlxd.messages import GenerateRequest, Text
from mlxd.status import EngineFigures, RowFigures

MARKUP = Markup(reasoning=(("<think>", "</think>"),), tool_format="hermes")
CALL = '<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call>'
SECRET = "what the caller wrote"
FIGURES = EngineFigures(memory_used=5, memory_peak=7, prefix_entries=1)
MISSED = CacheNote("differs", "differs from the closest earlier prompt after token 1")
SHARED = RowFigures(prompt_tokens=1, cached_tokens=1, prefilled_tokens=1, cache_note=MISSED)
TICK = 0.001
"""Seconds of a step."""
SLOW_LOAD = 3.0
"""Seconds; a quarter of it passes between the load for a request and its acceptance."""

Part = PrefillRow | DecodeRow | None


class FakeEngine:
    """One process: takes commands, makes steps."""

    def __init__(self, link: socket.socket, folder: Path) -> None:
        self._link = link
        self._reader = FrameReader()
        self._rows: dict[int, Iterator[Part]] = {}
        self._cancels = 0
        self._go = folder / "go"
        self._ended = folder / "ended"
        self._lock = folder / "lock"
        self._crowded = folder / "crowded"
        self._start_fault, self._load_fault = next_fault(folder / "faults")

    def run(self) -> NoReturn:
        self._claim()
        self._strike(self._start_fault)
        while True:
            readable, _, _ = select.select([self._link], [], [], TICK if self._rows else None)
            if readable:
                self._read()
            self._step()

    def _claim(self) -> None:
        """Be the only one; a process that was not reaped yet still counts."""
        try:
            descriptor = os.open(self._lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if is_alive(int(self._lock.read_text())):
                self._crowded.write_text(str(os.getpid()))
            self._lock.write_text(str(os.getpid()))
        else:
            os.write(descriptor, str(os.getpid()).encode())
            os.close(descriptor)

    def _read(self) -> None:
        data = self._link.recv(1 << 16)
        if not data:
            os._exit(0)
        for body in self._reader.feed(data):
            self._handle(decode_command(body))

    def _handle(self, command: Command) -> None:
        match command:
            case Configure():
                # As one piece, which arrives as one.
                ready = Ready("fake", "no blas", 1 << 30)
                stats = Stats(FIGURES)
                self._link.sendall(encode(ready) + encode(stats))
                if command.preload is not None:
                    self._load(command.preload)
            case Reconfigure():
                pass
            case Submit():
                self._rows[command.id] = self._play(command.id, command.request)
            case Cancel():
                self._cancels += 1
                self._rows.pop(command.id, None)
            case Count():
                self._send(Answered(command.id, self._count(command.request)))
            case Load():
                self._load_for(command)
            case Unload():
                self._send(ModelChanged(command.model, "unloaded"))
                self._send(Answered(command.id))
            case Shutdown():
                self._ended.touch()
                os._exit(0)

    def _count(self, request: GenerateRequest) -> int:
        words = words_of(request)
        match words:
            case ["cancels"]:
                return self._cancels
            case ["active"]:
                return len(self._rows)
            case ["noise", noise]:
                sys.stderr.write(noise + "\r 50%\r100%\nWARNING fake: done\n")
                sys.stderr.flush()
        return len(words)

    def _load_for(self, command: Load) -> None:
        if command.model == "broken":
            self._send(ModelChanged("broken", "failed", reason="no weights"))
            self._send(Refused(command.id, ModelUnusable("broken", "no weights").report()))
        elif command.model == "stuck":
            self._send(ModelChanged("stuck", "loading"))
        elif command.model == "huge":
            self._send(ModelChanged("huge", "loading"))
            self._send(Refused(command.id, OutOfMemory("full").report()))
        else:
            self._load(command.model)
            self._send(Answered(command.id))

    def _load(self, model: str) -> None:
        self._send(ModelChanged(model, "loading"))
        if model == "slow":
            time.sleep(SLOW_LOAD)
        self._strike(self._load_fault)
        self._send(ModelChanged(model, "loaded", 4096, 1000, markup=MARKUP))

    def _step(self) -> None:
        prefill: list[PrefillRow] = []
        decode: list[DecodeRow] = []
        for number, row in list(self._rows.items()):
            match next(row, row):
                case PrefillRow() as part:
                    prefill.append(part)
                case DecodeRow() as part:
                    decode.append(part)
                case None:
                    pass
                case _:
                    del self._rows[number]
        if prefill or decode:
            self._send(Step(tuple(prefill), tuple(decode), TICK))

    def _play(self, number: int, request: GenerateRequest) -> Iterator[Part]:
        """What happens to a request, a step at a time."""
        words = words_of(request)
        fault, state = parse(words)
        if request.model == "slow":
            self._load("slow")
            time.sleep(SLOW_LOAD / 4)
        yield from self._reach("submitted", state, fault)
        if words == ["refuse"]:
            self._send(Refused(number, ContextTooLong(9000, 4096).report()))
            return
        if words[:1] == ["postpone"]:
            self._send(Postponed(number))
            while not self._go.exists():
                yield None
        if words == ["stray"]:
            yield DecodeRow(number, RowFigures(), "a", 1)
        if words == ["misfit"]:
            self._send(Refused(number, ErrorReport("QueueFull", {"size": 1})))
        self._send(Accepted(number, len(words)))
        yield from self._reach("queued", state, fault)
        if words[:1] == ["wait"]:
            self._send(Step(waiting=tuple(WaitRow(number, each) for each in get_args(WaitReason))))
            while not self._go.exists():
                yield None
        figures = replace(SHARED, prompt_tokens=len(words))
        yield PrefillRow(number, figures)
        yield from self._reach("prefill", state, fault)
        figures = replace(figures, completion_tokens=1)
        yield DecodeRow(number, figures, "> ", 1)
        yield from self._reach("decode", state, fault)
        if words == ["odd"]:
            self._send(Accepted(number, len(words)))
            self._send(Step())
            yield PrefillRow(number, SHARED)
        if words == ["refuse", "late"]:
            self._send(Refused(number, OutOfMemory("full").report()))
            return
        while words == ["wait", "on"] or (words[:1] == ["pause"] and not self._go.exists()):
            yield None
        for row in answer(number, words):
            completion = figures.completion_tokens + row.tokens
            figures = replace(figures, completion_tokens=completion)
            yield replace(row, figures=figures)

    def _reach(self, here: str, state: str, fault: str) -> Iterator[None]:
        if here == state:
            self._strike(fault)
            while True:
                yield None

    def _strike(self, fault: str) -> None:
        match fault:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
            case "raise":
                raise RuntimeError(SECRET)
            case "exit":
                sys.stderr.write(f"{SECRET}\n[metal::malloc] Resource limit (499000) exceeded.\n")
                sys.exit(3)
            case "fork":
                if os.fork():
                    os._exit(7)
                time.sleep(60)
            case "garbage":
                self._link.sendall(b"\0\0\0\5garba")
            case "stall":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "close":
                self._link.close()
                time.sleep(60)
            case "nonsense":
                self._send(ModelChanged("unheard of", "loaded"))

    def _send(self, reply: Reply) -> None:
        self._link.sendall(encode(reply))


def answer(number: int, words: list[str]) -> Iterator[DecodeRow]:
    """The rows after the first one, without figures."""
    figures = RowFigures()
    match words:
        case ["endless"]:
            while True:
                yield DecodeRow(number, figures, "word ", 1)
        case ["call"]:
            yield DecodeRow(number, figures, CALL, 5)
            yield DecodeRow(number, figures, CALL, 5)
            while True:
                yield DecodeRow(number, figures, "more ", 1)
    for word in words[1:]:
        yield DecodeRow(number, figures, f"{word} ", 1)
    reason = "bored" if words == ["bored"] else "stop"
    yield DecodeRow(number, figures, "", 1, end=EndRow(reason, timings=Timings(1.0, 2.0, 3.0)))


def parse(words: list[str]) -> tuple[str, str]:
    """The fault and the state at which it strikes, empty for none."""
    match words:
        case ["hold", state]:
            return "", state
        case [fault, "at", state]:
            return fault, state
    return "", ""


def words_of(request: GenerateRequest) -> list[str]:
    part = request.messages[-1].parts[0]
    return part.text.split() if isinstance(part, Text) else []


def next_fault(path: Path) -> tuple[str, str]:
    """The start and load faults of this process, taken off the file."""
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines:
        return "", ""
    path.write_text("\n".join(lines[1:]))
    when, _, fault = lines[0].partition(" ")
    return (fault, "") if when == "start" else ("", fault)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    FakeEngine(socket.socket(fileno=arguments.fd), arguments.folder).run()


if __name__ == "__main__":
    main()
