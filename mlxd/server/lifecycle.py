"""`mlxd serve`, put together: settings, engine, store, application, listener; how they end.

The order of the end: no new connections, no new requests, running requests finish or are failed by
the engine, their last words are written, the handlers end, and only then what they use is closed.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

import click

from mlxd.admin_token import Access, chosen, published
from mlxd.api.admin.snapshots import ServerFacts, new_token
from mlxd.api.app import create_app
from mlxd.api.http.framework import Api
from mlxd.config.settings import ConversationSettings, Settings
from mlxd.engine.interface import Engine
from mlxd.engine.model_files.facts import describe
from mlxd.engine.supervision.allocator import return_freed_memory
from mlxd.server import logs
from mlxd.server.addresses import Taken, listening_sockets
from mlxd.server.announcement import announcement, base_url
from mlxd.server.connection import Limits
from mlxd.server.engines import build_engine, configure_engine
from mlxd.server.listener import Listener, raise_file_limit
from mlxd.server.reload import Reloader
from mlxd.service import last_exit
from mlxd.service.log_files import server_log
from mlxd.service.processes import birth
from mlxd.store.conversations import ConversationStore, build_store
from mlxd.store.database import StoreInUse

log = logging.getLogger(__name__)

DID_NOT_END = 75
"""Exit code: shutting down took far longer than it may."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OVERTIME = 10.0
"""Seconds past `drain_seconds` after which the process is ended whatever it still does."""
FLUSH = 2.0
"""Seconds for the last bytes of answers to reach clients that read."""
NOTHING: Mapping[str, str] = {}
TERMINAL = "/dev/tty"


def run(
    settings: Settings,
    *,
    config_file: Path | None,
    scripted: str | None,
    unusable: Mapping[str, str] = NOTHING,
    reread: Callable[[], Settings],
    service: bool = False,
) -> None:
    """Serve until told to stop; raises `Taken` where it can't.

    `scripted` is `agent` or a script's file; `unusable` has why models can't be served now.
    `reread` reads the configuration again.
    """
    set_up_logs(settings, service=service)
    return_freed_memory()
    config_file = config_file and config_file.absolute()
    sockets = listening_sockets(settings)
    try:
        engine = build_engine(settings, scripted, config_file)
        store = build_store(what_to_remember(settings, scripted), config_file)
        process = ServerProcess(
            *(settings, engine, store, sockets, unusable),
            scripted=scripted,
            reread=reread,
            service=service,
        )
        asyncio.run(process.serve(config_file))
    except StoreInUse as error:
        raise Taken(f"mlxd: {error}") from error
    except Exception:
        if service:
            # What ends a service is looked for in its log.
            log.critical("the server has failed", exc_info=True)
        raise
    finally:
        for sock in sockets:
            sock.close()


def set_up_logs(settings: Settings, *, service: bool) -> None:
    """Log to stderr, and of a service to a file too."""
    level, form = settings.log.level, settings.log.format
    if not service:
        logs.setup(level, form)
        return
    try:
        file = logs.LogFile(server_log())
    except OSError as error:
        logs.setup(level, form)
        log.warning("%s can't be written: %s", server_log(), error.strerror)
        return
    # A full disk costs lines: there is nowhere else to say it.
    logging.raiseExceptions = False
    # launchd would keep stderr in one file that grows for ever.
    others = [] if sys.platform == "darwin" else [logging.StreamHandler(sys.stderr)]
    logs.setup(level, form, file, *others)


def what_to_remember(settings: Settings, scripted: str | None) -> ConversationSettings:
    """The settings of the store; what a script answers is only kept where that is configured."""
    conversations = settings.conversations
    if scripted is None or conversations.model_fields_set & {"store", "path"}:
        return conversations
    return conversations.model_copy(update={"store": "memory", "archive": False})


class StopSignals:
    """SIGTERM, Ctrl-C and a closed terminal: the first asks to finish, the second to hurry.

    `limit` seconds after the first, the process ends whatever it is doing. SIGHUP asks to read the
    configuration again where no terminal can have been closed (`hang_ups` is false).
    """

    def __init__(self, limit: float, *, hang_ups: bool = True) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        self.limit = limit
        self._hang_ups = hang_ups
        self._begun = threading.Event()
        self._over = threading.Event()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Listen for the signals in the running event loop."""
        loop = asyncio.get_running_loop()

        def pass_on(number: int) -> None:
            # A closed terminal sends two, the shell's and the system's: nobody is in a hurry.
            if self.stop.is_set() and number != signal.SIGHUP:
                self.hurry.set()
            self.stop.set()

        def arrived(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP and not self._hang_ups:
                loop.call_soon_threadsafe(self.reload.set)
                return
            self._begun.set()
            loop.call_soon_threadsafe(pass_on, number)

        def watch() -> None:
            # A thread, not a task: the event loop may be what hangs.
            self._begun.wait()
            if not self._over.wait(self.limit):
                os._exit(DID_NOT_END)

        # What `nohup` lets a process ignore stays ignored.
        heeded = [each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, arrived) for number in heeded}
        threading.Thread(target=watch, name="shutdown watchdog", daemon=True).start()
        try:
            yield
        finally:
            # Both, or the thread would wait for a beginning for ever.
            self._over.set()
            self._begun.set()
            for number, handler in before.items():
                # The second of a closed terminal's may still come.
                signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else handler)


@dataclass
class ServerProcess:
    """A server on `sockets`, from its start to its end."""

    settings: Settings
    engine: Engine
    store: ConversationStore
    sockets: Sequence[socket.socket]
    unusable: Mapping[str, str] = field(default_factory=dict)
    scripted: str | None = None
    reread: Callable[[], Settings] = Settings
    service: bool = False
    _ending: ExitStack = field(default_factory=ExitStack)

    async def serve(self, config_file: Path | None) -> None:
        """Serve until the first signal, then end in order."""
        hang_ups = not self.service and in_terminal()
        signals = StopSignals(self.settings.server.drain_seconds + OVERTIME, hang_ups=hang_ups)
        with signals.handled():
            # Before the address answers: a file that is another's ends the server here.
            await self.store.open()
            try:
                await self._serve(signals, config_file)
            finally:
                await self.store.close()
        log.info("stopped")

    async def _serve(self, signals: StopSignals, config_file: Path | None) -> None:
        facts = ServerFacts(
            token=self.settings.admin.token or new_token(),
            url=base_url(self.settings.server.host, self.sockets),
            config_file=str(config_file or ""),
            connections=lambda: listener.open_connections,
            store=self.store.status,
            describe=describe,
            reload=lambda check: reloader.reload(check),
        )
        app = create_app(self.settings, self.engine, store=self.store, facts=facts)
        reloader = Reloader(
            self.settings, self.reread, partial(self._take, app, signals, config_file)
        )
        server = self.settings.server
        raise_file_limit()
        listener = Listener(
            app, Limits(connections=server.max_connections, message=server.max_body), app.unread
        )
        await app.startup()
        try:
            await self.engine.start()
            listener.start(list(self.sockets))
            self._publish(facts, config_file)
            self._announce(config_file)
            reloading = asyncio.create_task(
                reloader.reload_whenever(signals.reload), name="mlxd reload"
            )
            await signals.stop.wait()
            reloading.cancel()
        finally:
            # First, so that no program finds a token of a server that is about to end.
            self._ending.close()
            app.draining.set()
            await self._end(listener, signals)
            await app.shutdown()

    def _take(
        self, app: Api, signals: StopSignals, config_file: Path | None, settings: Settings
    ) -> None:
        """Go on with these settings, in everything that can."""
        self.settings = settings
        # First, so that no request is let in for a model that the engine does not know yet.
        configure_engine(self.engine, settings, self.scripted, config_file)
        app.configure(settings)
        self.store.configure(what_to_remember(settings, self.scripted))
        logs.change(settings.log.level, settings.log.format)
        signals.limit = settings.server.drain_seconds + OVERTIME

    def _publish(self, facts: ServerFacts, config_file: Path | None) -> None:
        """Let programs of this account find the admin token, until the server ends."""
        admin = self.settings.admin
        if not admin.enabled:
            return
        started_by = "service" if self.service else "terminal" if in_terminal() else "background"
        access = Access(
            *(facts.url, facts.token, os.getpid(), time.time()),
            birth=birth(os.getpid()),
            started_by=started_by,
        )
        try:
            self._ending.enter_context(published(access, chosen(admin.token_file, config_file)))
        except OSError as error:
            log.warning(
                "the admin token can't be written: %s; set admin.token_file", error.strerror
            )

    async def _end(self, listener: Listener, signals: StopSignals) -> None:
        running, drain = len(self.engine.status().requests), self.settings.server.drain_seconds
        if running:
            log.info(
                "stopping: %d running, up to %.0f s to finish; a second signal ends them now",
                *(running, drain),
            )
        await listener.stop_accepting()
        stopping = asyncio.create_task(self.engine.stop(drain))
        hurrying = asyncio.create_task(signals.hurry.wait())
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            # The first call, which waits for the requests, returns when this one has ended them.
            await self.engine.stop(0.0)
        hurrying.cancel()
        await stopping
        await listener.close(FLUSH)

    def _announce(self, config_file: Path | None) -> None:
        settings, url = self.settings, base_url(self.settings.server.host, self.sockets)
        if self.service:
            last_exit.clear()
            models = ", ".join(model.id for model in self.engine.models())
            file = config_file or "no file"
            log.info("serving %s with %s; configuration: %s", url, models or "no model", file)
            for alias, reason in self.unusable.items():
                log.warning("the model %s can't be served: %s", alias, reason)
            return
        said = announcement(
            *(url, settings, self.engine.models()),
            unusable=self.unusable,
            store=self.store.status().path,
            config_file=config_file,
        )
        # Nobody may be reading; that is no reason not to serve.
        with suppress(OSError):
            click.echo(said)


def in_terminal() -> bool:
    """Whether this process belongs to a terminal, whose end would end it too."""
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
