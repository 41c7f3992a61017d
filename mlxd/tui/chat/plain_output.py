"""`mlxd chat` without a screen: one question, the answer's text on stdout, problems on stderr."""

import asyncio
import io
import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import BinaryIO, NamedTuple

import msgspec

from mlxd.tui.chat.answer import StreamedAnswer
from mlxd.tui.chat.local.answer_settings import AnswerSettings
from mlxd.tui.chat.problems import NOT_RUNNING, advised, remedy_in_shell
from mlxd.tui.chat.safe_text import harmless, one_line
from mlxd.tui.chat.session import Session
from mlxd.tui.client import ServerClient

OK = 0
FAILED = 1
NO_SERVER = 3

CUT = "the answer was cut at its length limit."


class Printer:
    """Writes an answer as it grows: as it is into a file or pipe, harmless on a terminal."""

    def __init__(self, out: BinaryIO, *, terminal: bool) -> None:
        self._out = out
        self._terminal = terminal
        self._written = 0
        self._last = ""

    def show(self, text: str) -> None:
        """Write what is new of `text`, the answer so far."""
        new = text[self._written :]
        if not new:
            return
        self._written, self._last = len(text), new[-1]
        shown = harmless(new) if self._terminal else new
        self._out.write(shown.encode("utf-8", "replace"))
        self._out.flush()

    def end(self) -> None:
        """Close the last line, if anything was written and it is open."""
        if self._last not in ("", "\n"):
            self._out.write(b"\n")
            self._out.flush()


async def answer_once(session: Session, question: str, printer: Printer) -> StreamedAnswer:
    """Ask, print the text as it comes, and give back the whole answer."""
    answer = StreamedAnswer()
    try:
        async with aclosing(session.ask(question)) as steps:
            async for answer in steps:
                printer.show(answer.text)
    finally:
        printer.end()
    return answer


class Request(NamedTuple):
    """What is asked, and how: `schema` is what the answer has to be."""

    question: str
    model: str = ""
    system: str = ""
    settings: AnswerSettings = AnswerSettings()
    schema: object = None
    as_json: bool = False


def report(answer: StreamedAnswer) -> dict[str, object]:
    """An answer as one JSON object."""
    return {
        "text": answer.text,
        "reasoning": "".join(part.text for part in answer.parts if part.kind == "reasoning"),
        "model": answer.answering,
        "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": answer.tokens},
        "finish": _finish(answer),
        "seconds": round(answer.last, 3),
    }


def _finish(answer: StreamedAnswer) -> str:
    match answer.state:
        case "completed":
            return "tool_calls" if answer.calls else "stop"
        case "incomplete":
            return "length" if answer.reason in ("", "max_output_tokens") else answer.reason
    return answer.code or answer.state


def run(client: Callable[[], ServerClient], request: Request) -> int:
    """One answer from the server that `client` connects to; the exit code.

    A reader that has left, as `head` does, has had enough: that is no failure.
    """
    if sys.stdout is None:
        _complain("there is no stdout to write to.")
        return FAILED
    printer = Printer(sys.stdout.buffer, terminal=sys.stdout.isatty())

    async def ask() -> StreamedAnswer:
        async with client() as connected:
            session = Session(
                connected,
                model=request.model,
                system=request.system,
                keep=False,
                schema=request.schema,
            )
            session.settings = request.settings
            if not request.as_json:
                return await answer_once(session, request.question, printer)
            answer = await answer_once(
                session, request.question, Printer(io.BytesIO(), terminal=False)
            )
            printer.show(msgspec.json.encode(report(answer)).decode())
            printer.end()
            return answer

    try:
        return _exit_code(asyncio.run(ask()))
    except BrokenPipeError:
        _discard_stdout()
        return OK
    except OSError as error:
        _discard_stdout()
        _complain(f"the answer can't be written: {error.strerror}.")
        return FAILED


def _discard_stdout() -> None:
    """Let what could not be written go; Python would complain of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(answer: StreamedAnswer) -> int:
    match answer.state:
        case "completed":
            for call in answer.calls:
                _complain(f"the model asked for the tool {call.name}, which was not run.")
            return OK
        case "incomplete":
            _complain(CUT)
            return OK
    _complain(advised(answer.problem, remedy_in_shell(answer.code)))
    return NO_SERVER if answer.code == NOT_RUNNING else FAILED


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"mlxd: {one_line(text, 1000)}\n")
