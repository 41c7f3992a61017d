"""What workers tell the chat."""

from dataclasses import dataclass

from textual.message import Message

from mlxd.tui.chat.answer import StreamedAnswer
from mlxd.tui.chat.views import AnswerView


@dataclass
class AnswerEnded(Message):
    """An answer has ended, one way or another."""

    answer: StreamedAnswer
    view: AnswerView


@dataclass
class SessionRemark(Message):
    """The session has something to say."""

    text: str
