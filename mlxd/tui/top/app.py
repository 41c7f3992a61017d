"""`mlxd top`: the app around the dashboard. It keeps what workers tell and shows it."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote

from textual.binding import Binding, BindingType
from textual.screen import Screen

from mlxd.status import ConversationStatus, Lifecycle, ModelInfo, RequestStatus, Status
from mlxd.tui.base_app import TerminalApp
from mlxd.tui.terminal import Terminal
from mlxd.tui.toned_text import Line
from mlxd.tui.top.connection_state import ConnectionState
from mlxd.tui.top.dashboard import Dashboard
from mlxd.tui.top.details import conversation_lines, event_lines, model_lines, request_lines
from mlxd.tui.top.live_table import LiveTable
from mlxd.tui.top.messages import (
    ActionDone,
    ActionFailed,
    Connected,
    Disconnected,
    EventArrived,
    StatusArrived,
)
from mlxd.tui.top.screens import ConfirmScreen, DetailScreen, HelpScreen
from mlxd.tui.top.server_feed import BACKOFF, INTERVAL, SILENCE, Connect, ServerFeed, perform
from mlxd.tui.top.tables import LogLine, short_id, with_titles

LOG_LINES = 1000
"""Events that are kept."""
NOTICE_SECONDS = 6.0
"""Seconds that a line about what was done stays."""
PHASES = ("request.queued", "request.prefill", "request.decode")
"""Events that the table of requests shows better than a log."""
ENDINGS = ("request.finished", "request.failed", "request.cancelled", "request.refused")


class TopApp(TerminalApp):
    """Follows the server that `connect` makes clients for."""

    CSS_PATH = Path(__file__).with_name("top.tcss")
    TITLE = "mlxd top"
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1,h", "help", "Help", key_display="?"),
        Binding("c,delete", "cancel", "Cancel", key_display="c"),
        Binding("l", "load", show=False),
        Binding("u", "unload", show=False),
        Binding("p,space", "pause", "Pause", key_display="p"),
        Binding("t", "other_theme", show=False),
        Binding("R", "restart", show=False),
        Binding("q,ctrl+c,ctrl+q", "quit", "Quit", key_display="q"),
    ]

    def __init__(
        self,
        connect: Connect,
        terminal: Terminal | None = None,
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        backoff: Sequence[float] = BACKOFF,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(terminal or Terminal())
        self._connect = connect
        self._glyphs = self.terminal.glyphs
        self._clock = clock
        self._feed = ServerFeed(
            connect, self.post_message, interval=interval, backoff=backoff, silence=silence
        )
        self.dashboard = Dashboard(self._glyphs, clock)
        self.status: Status | None = None
        self._connection = ConnectionState()
        self._events: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._numbers = 0
        self._notice_at = 0.0
        self._detail: DetailScreen | None = None

    def get_default_screen(self) -> Screen[None]:
        return self.dashboard

    def on_mount(self) -> None:
        self.take_terminal()
        self.set_class(not self.terminal.unicode, "-ascii")
        self.animation_level = "none"
        self.run_worker(self._feed.run(), name="feed", group="feed")
        self.set_interval(1.0, self.second_passed)

    def on_connected(self, message: Connected) -> None:
        self._connection = replace(self._connection, connected=True, problem=None)
        seconds = message.history.seconds
        if seconds:
            self.dashboard.chart.put(seconds, seconds[-1].at)
        self.dashboard.show_connection(self._connection)

    def on_status_arrived(self, message: StatusArrived) -> None:
        self.status = with_titles(message.status)
        self._connection = replace(
            self._connection, connected=True, problem=None, seen=self._clock()
        )
        self._show()

    def on_event_arrived(self, message: EventArrived) -> None:
        if message.event.kind not in PHASES:
            self._record(message.event)

    def on_disconnected(self, message: Disconnected) -> None:
        now = self._clock()
        # A server that stays away is logged once, not at every attempt.
        if self._connection.problem is None or str(self._connection.problem) != str(
            message.problem
        ):
            self._record(_own("top.disconnected", str(message.problem), "error"))
        self._connection = replace(
            self._connection, connected=False, problem=message.problem, retry=now + message.wait
        )
        self.dashboard.show_connection(self._connection)

    def on_action_done(self, message: ActionDone) -> None:
        self._show_notice([(message.text, "good")])

    def on_action_failed(self, message: ActionFailed) -> None:
        self._show_notice([(message.text, "bad")])
        self._record(_own("top.refused", message.text, "error"))

    def on_live_table_chosen(self, message: LiveTable.Chosen) -> None:
        match message.item:
            case RequestStatus(id=key) as item:
                self._open_request(item, key)
            case ConversationStatus(id=key) as item:
                self._open(f"Conversation {self._glyphs.clean(key)}", self._conversation(item))
            case ModelInfo(id=name) as item:
                self._open(f"Model {self._glyphs.clean(name)}", self._model(item))
            case LogLine(event=event):
                self._open("Event", lambda width: event_lines(event, width, self._glyphs))

    def action_help(self) -> None:
        """Open the help."""
        self.push_screen(HelpScreen())

    def action_pause(self) -> None:
        """Stop the picture, or let it go on."""
        self._connection = replace(
            self._connection, paused=0.0 if self._connection.paused else self._clock()
        )
        self._show()

    def action_cancel(self) -> None:
        """Ask, then cancel the request under the cursor."""
        item = self.dashboard.active.current
        if isinstance(item, RequestStatus):
            self._confirm_cancel(item)
        else:
            self._show_notice([("Only a request in Running or Queue can be cancelled.", "warn")])

    def action_load(self) -> None:
        """Load the model under the cursor."""
        if (item := self._model_under_cursor()) is not None:
            self._perform(f"/admin/models/{quote(item.id, safe='')}/load", f"Loading {item.id}.")

    def action_unload(self) -> None:
        """Unload the model under the cursor; asks when it is in use."""
        if (item := self._model_under_cursor()) is None:
            return
        path = f"/admin/models/{quote(item.id, safe='')}/unload"
        if item.running:
            question = f"Unload {item.id}? Requests that it answers now: {item.running}."
            self._confirm(question, path, f"Unloading {item.id}.")
        else:
            self._perform(path, f"Unloading {item.id}.")

    def action_restart(self) -> None:
        """Ask, then replace the engine process."""
        running = len(self.status.running) if self.status else 0
        question = f"Restart the engine? Running requests that end with an error: {running}."
        self._confirm(question, "/admin/engine/restart", "Restarting the engine.")

    async def action_quit(self) -> None:
        self.exit(0)

    def _model_under_cursor(self) -> ModelInfo | None:
        item = self.dashboard.active.current
        if isinstance(item, ModelInfo):
            return item
        self._show_notice([("Choose a model in the pane Models (4) first.", "warn")])
        return None

    def _confirm_cancel(self, item: RequestStatus) -> None:
        whose = " of " + (item.agent or item.client) if item.agent or item.client else ""
        question = f"Cancel request {item.id}{whose}? Its answer ends here."
        path = f"/admin/requests/{quote(item.id, safe='')}/cancel"
        self._confirm(question, path, f"Cancelled {short_id(item.id)}.")

    def _confirm(self, question: str, path: str, done: str) -> None:
        def confirmed(yes: bool | None) -> None:
            if yes:
                self._perform(path, done)

        self.push_screen(ConfirmScreen(self._glyphs.clean(question)), confirmed)

    def _perform(self, path: str, done: str) -> None:
        work = perform(self._connect, path, self._glyphs.clean(done), self.post_message)
        self.run_worker(work, group="actions")

    def _open_request(self, item: RequestStatus, key: str) -> None:
        seen = item

        def lines(width: int) -> list[Line]:
            nonlocal seen
            # A request that has ended stays as it was seen last.
            seen = next((each for each in self._requests() if each.id == key), seen)
            if (ending := self._ending(key)) is not None:
                # The last status of all is often older than the last tokens.
                seen = ending.last or seen
                screen.end()
            return request_lines(seen, ending, width, self._glyphs)

        def left(cancel: bool | None) -> None:
            if cancel:
                self._confirm_cancel(seen)

        title = f"Request {self._glyphs.clean(key)}"
        screen = DetailScreen(title, lines, cancels=True)
        self._open_detail(screen, left)

    def _open(self, title: str, lines: Callable[[int], list[Line]]) -> None:
        self._open_detail(DetailScreen(title, lines), lambda _: None)

    def _open_detail(self, screen: DetailScreen, left: Callable[[bool | None], None]) -> None:
        def closed(result: bool | None) -> None:
            self._detail = None
            left(result)

        self._detail = screen
        self.push_screen(screen, closed)

    def _conversation(self, item: ConversationStatus) -> Callable[[int], list[Line]]:
        def lines(width: int) -> list[Line]:
            known = self.status.conversations if self.status else ()
            now = next((each for each in known if each.id == item.id), item)
            requests = [each for each in self._requests() if each.conversation == item.id]
            return conversation_lines(now, requests, width, self._glyphs)

        return lines

    def _model(self, item: ModelInfo) -> Callable[[int], list[Line]]:
        def lines(width: int) -> list[Line]:
            known = self.status.engine.models if self.status else ()
            now = next((each for each in known if each.id == item.id), item)
            return model_lines(now, self._glyphs)

        return lines

    def _requests(self) -> Sequence[RequestStatus]:
        return (*self.status.running, *self.status.waiting) if self.status else ()

    def _ending(self, request: str) -> Lifecycle | None:
        """The event that ended a request, if it was seen."""
        events = (line.event for line in reversed(self._events))
        return next(
            (each for each in events if each.request == request and each.kind in ENDINGS), None
        )

    def _record(self, event: Lifecycle) -> None:
        self._numbers += 1
        self._events.append(LogLine(self._numbers, event))
        if not self._connection.paused:
            self.dashboard.show_log(tuple(self._events))
            if self._detail is not None and event.request:
                self._detail.update()

    def _show(self) -> None:
        self.dashboard.show_connection(self._connection)
        if self._connection.paused or self.status is None:
            return
        self.show_status(self.status)

    def show_status(self, status: Status) -> None:
        """Show a status on every screen that is open."""
        self.dashboard.show_status(status)
        if self._detail is not None:
            self._detail.update()

    def _show_notice(self, line: Line) -> None:
        self._notice_at = self._clock()
        self.dashboard.show_notice(line)

    def second_passed(self) -> None:
        """Show what changes with time alone."""
        if self._notice_at and self._clock() - self._notice_at >= NOTICE_SECONDS:
            self._notice_at = 0.0
            self.dashboard.show_notice([])
        else:
            self.dashboard.refresh_words()


def _own(kind: str, message: str, level: Literal["info", "warning", "error"]) -> Lifecycle:
    """An event of the dashboard's own."""
    return Lifecycle(kind=kind, at=time.time(), message=message, level=level)
