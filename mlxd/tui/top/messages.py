"""What workers tell the apps. Messages that come often replace the one that still waits."""

from textual.message import Message

from mlxd.status import Lifecycle, Status, ThroughputHistory
from mlxd.tui.problems import ServerProblem


class Connected(Message):
    """The server answers; its history comes with it."""

    def __init__(self, history: ThroughputHistory) -> None:
        super().__init__()
        self.history = history


class StatusArrived(Message):
    """A newer status; an older one that was not shown yet is of no use any more."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self.status = status

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StatusArrived)


class EventArrived(Message):
    """Something for the log."""

    def __init__(self, event: Lifecycle) -> None:
        super().__init__()
        self.event = event


class Disconnected(Message):
    """There is no connection, and why; the next attempt begins in `wait` seconds."""

    def __init__(self, problem: ServerProblem, wait: float) -> None:
        super().__init__()
        self.problem = problem
        self.wait = wait


class ActionDone(Message):
    """What the person asked for was done, in words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class ActionFailed(Message):
    """What the person asked for was not done, and why."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
