"""The configuration read again while serving: all of it is taken, or nothing."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from mlxd.config.changes import ChangedKey, changes, in_words, taken
from mlxd.config.problems import conflicts, dotted
from mlxd.config.settings import Settings
from mlxd.errors import ConfigError

log = logging.getLogger(__name__)


class Reloader:
    """Reads the configuration with `reread`, and gives what a running server takes to `take`."""

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        take: Callable[[Settings], None],
    ) -> None:
        self.settings = settings
        self._reread = reread
        self._take = take
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, check: bool = False) -> tuple[ChangedKey, ...]:
        """What has changed; raises `ConfigError` with all problems. With `check` nothing changes.

        What only a restart changes is among it each time, until there was one.
        """
        async with self._one_at_a_time:
            try:
                read = await asyncio.to_thread(self._reread)
                found, settings = changes(self.settings, read), taken(self.settings, read)
                _check(settings)
            except ConfigError as error:
                if not check:
                    for line in str(error).splitlines():
                        log.warning("the configuration stays as it was: %s", line)
                raise
            if not check:
                # In one go: no request is begun with a half of it.
                self._take(settings)
                self.settings = settings
                log.info("the configuration was read again; %s", in_words(found))
            return found

    async def reload_whenever(self, asked: asyncio.Event) -> None:
        """Reload each time the event is set; what is wrong is in the log then."""
        while True:
            await asked.wait()
            asked.clear()
            with suppress(ConfigError):
                await self.reload()


def _check(settings: Settings) -> None:
    """What is taken has to fit what only a restart would change, such as the address."""
    for problem in conflicts(settings):
        reason = f"{problem.reason} (until a restart)"
        raise ConfigError("configuration", dotted(problem.path), reason, problem.hint)
