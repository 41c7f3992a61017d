"""What stands above the tables, as lines of text: the server, its engine, and how busy they are."""

from mlxd import __version__, outdated
from mlxd.status import EngineStatus, PrefixDiskFigures, Rates, Status
from mlxd.tui.format import bar, count, fraction, plural, rate, share, size, span
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Line, Tone, apart, cleaned, joined

MEMORY_BAR = 10
HIGH, FULL = 0.85, 0.97
"""Shares of the memory limit from which the bar warns."""
MOST_KEYS = 3
GOOD_STATES = ("serving", "ok", "ready", "running")
BAD_STATES = ("failed", "stalled", "stopped")


def heading(
    status: Status, connection: Line, width: int, glyphs: Glyphs, *, gone: bool = False
) -> list[Line]:
    """Three lines; `connection` says how fresh they are.

    What is known of a server that is `gone` was true once, and looks so.
    """
    name: Line = [("mlxd ", "title"), (status.server.version, "plain")]
    if outdated(status.server.version):
        name.append((f" ({__version__} is installed: restart it)", "warn"))
    server, engine, traffic = _server(status), _engine(status, glyphs), _traffic(status)
    if gone:
        server = [[(status.server.url, "dim")]]
        engine, traffic = _dimmed(engine), _dimmed(traffic)
    room = max(0, width - sum(len(text) for text, _ in connection) - 2)
    rows = (([name, *server], room), (engine, width), (traffic, width))
    first, *others = (
        joined([cleaned(group, glyphs) for group in groups], cells, glyphs)
        for groups, cells in rows
    )
    return [apart(first, connection, width, glyphs), *others]


def _dimmed(groups: list[Line]) -> list[Line]:
    return [[(text, "dim") for text, _ in group] for group in groups]


def state_tone(state: str) -> Tone:
    """How a state looks."""
    if state in GOOD_STATES:
        return "good"
    return "bad" if state in BAD_STATES else "warn"


def _server(status: Status) -> list[Line]:
    server = status.server
    shown = server.state if server.health in ("ok", server.state) else server.health
    groups: list[Line] = [[(shown, state_tone(shown))], [(f"up {span(server.uptime)}", "plain")]]
    # The engine's line has its own.
    if server.reason and server.reason != status.engine.reason:
        groups.insert(1, [(server.reason, "warn")])
    groups.append([(server.url, "dim")])
    groups.append([(f"server {size(server.memory)}", "dim")] if server.memory else [])
    groups.append([(plural(server.connections, "connection"), "dim")])
    return [group for group in groups if group]


def _engine(status: Status, glyphs: Glyphs) -> list[Line]:
    engine, peak = status.engine, status.engine.figures.memory_peak
    state: Line = [("engine ", "dim"), (engine.state, state_tone(engine.state))]
    if engine.reason:
        state.append((f": {engine.reason}", "warn"))
    groups = [_memory(engine, glyphs), state, *_restarts(engine, status.server.at)]
    device = " ".join(filter(None, (engine.device, engine.blas and f"({engine.blas})")))
    groups.append([(device, "plain")])
    if engine.step_seconds:
        groups.append([("step ", "dim"), (span(engine.step_seconds), "plain")])
    if engine.idle_seconds >= 1:
        groups.append([(f"no progress for {span(engine.idle_seconds)}", "warn")])
    groups.append([(f"peak {size(peak)}", "dim")] if peak else [])
    return [group for group in groups if any(text for text, _ in group)]


def _memory(engine: EngineStatus, glyphs: Glyphs) -> Line:
    used, limit = engine.figures.memory_used, engine.memory_limit
    if not limit:
        return [("mem ", "dim"), (size(used), "plain")] if used else []
    part = fraction(used, limit)
    tone: Tone = "bad" if part >= FULL else "warn" if part >= HIGH else "good"
    return [
        ("mem ", "dim"),
        (bar(part, MEMORY_BAR, glyphs), tone),
        (f" {size(used)}/{size(limit)}", "plain"),
    ]


def _restarts(engine: EngineStatus, now: float) -> list[Line]:
    """How often it was replaced, and the last time."""
    if not engine.restarts:
        return []
    groups: list[Line] = [[(plural(engine.restarts, "restart"), "warn")]]
    if engine.last_restarts:
        last = engine.last_restarts[-1]
        reason = "" if last.reason == engine.reason else f": {last.reason}"
        groups.append([(f"last {span(now - last.at)} ago{reason}", "warn")])
    return groups


def _traffic(status: Status) -> list[Line]:
    rates = status.rates.get("10s", Rates())
    minute = status.rates.get("60s", Rates())
    groups: list[Line] = [
        [("decode ", "dim"), (f"{rate(rates.decode)} t/s", "decode")],
        [("prefill ", "dim"), (f"{rate(rates.prefill)} t/s", "prefill")],
        [(f"{len(status.running)} running", "plain"), *_room(status.capacity.max_batch)],
        [(f"{len(status.waiting)} queued", _queue_tone(status)), *_room(status.capacity.max_queue)],
        *_keys(status.engine),
        [(f"{count(minute.requests_per_minute)} req/min", "plain")],
    ]
    errors = minute.errors_per_minute
    if errors:
        groups.append([(f"{count(errors)} failed/min", "bad")])
    return [*groups, *_memories(status)]


def _keys(engine: EngineStatus) -> list[Line]:
    """The keys that had most of the last minute's tokens, each with its part."""
    busiest = sorted(engine.keys, key=lambda key: -key.share)[:MOST_KEYS]
    shares = [f"{key.name} {100 * key.share:.0f}%" for key in busiest if key.share > 0]
    return [[("keys ", "dim"), (", ".join(shares), "plain")]] if shares else []


def _room(limit: int) -> Line:
    return [(f"/{limit}", "dim")] if limit else []


def _queue_tone(status: Status) -> Tone:
    if status.capacity.max_queue and len(status.waiting) >= status.capacity.max_queue:
        return "bad"
    return "warn" if status.waiting else "plain"


def _memories(status: Status) -> list[Line]:
    """The prefix cache, and before it what is wrong with the store and the disk."""
    figures, totals = status.engine.figures, status.totals
    groups, disk = list[Line](), figures.prefix_disk
    if status.store.problem:
        groups.append([(f"store: {status.store.problem}", "bad")])
    if disk.problem:
        groups.append([(f"prefixes: {disk.problem}", "warn")])
    if disk.damaged:
        groups.append([(f"{count(disk.damaged)} damaged on the disk", "warn")])
    if totals.prompt_tokens:
        cached = share(totals.cached_tokens, totals.prompt_tokens)
        groups.append([(cached, "good"), (" of prompts cached", "dim")])
    if figures.prefix_entries:
        noun = "prefix" if figures.prefix_entries == 1 else "prefixes"
        held = f"{figures.prefix_entries} {noun} {size(figures.prefix_bytes)}"
        groups.append([(held, "dim")])
    return [*groups, *_disk(disk)]


def _disk(disk: PrefixDiskFigures) -> list[Line]:
    """Prefixes on the disk, where they are kept: how full it is, and what it has saved."""
    if not disk.limit:
        return []
    # Apart from each other: what does not fit into the line is left out.
    parts = [f"disk {size(disk.bytes)}/{size(disk.limit)} in {plural(disk.entries, 'file')}"]
    if disk.hits:
        parts.append(f"{plural(disk.hits, 'hit')} of {count(disk.hit_tokens)} tokens")
    parts.append(f"{size(disk.written_today)} written today" if disk.written_today else "")
    parts.append(f"{count(disk.dropped)} dropped" if disk.dropped else "")
    return [[(part, "dim")] for part in parts if part]
