"""`mlxd top`: what it shows in every state, and what every key does."""

import pytest
from msgspec.structs import replace

from mlxd.status import RowFigures
from mlxd.tui.terminal import FEW, Terminal
from mlxd.tui.top.screens import DetailScreen, HelpScreen
from tests.tui.pictures import (
    BUSY,
    IDLE,
    MISSED,
    crowded,
    decoding,
    event,
    restarting,
    with_engine,
    with_running,
)
from tests.tui.top.watching import LARGE, SMALL, Watch, seeing, watching


def rows(watch: Watch) -> list[str]:
    """The keys of the rows of the active table, in their order."""
    return [item.id for item in watch.app.dashboard.active.rows]


async def test_an_idle_server_is_shown_with_its_models() -> None:
    async with seeing(IDLE, LARGE) as watch:
        for words in ("serving", "4.0 GB/19 GB", "0 running", "qwen3-4b", "no config.json"):
            assert words in watch.text


async def test_a_busy_server_shows_requests_queue_and_conversations() -> None:
    async with seeing(BUSY, LARGE) as watch:
        for words in ("1 Running 6", "2 Queue 3", "3 Conversations 5", "beef0001", "43%"):
            assert words in watch.text


async def test_an_engine_that_restarts_says_why() -> None:
    async with seeing(restarting(), LARGE) as watch:
        for words in ("engine restarting: it made no progress", "2 restarts", "last 4.0s ago"):
            assert words in watch.text
        assert watch.text.count("it made no progress") == 1


async def test_an_engine_that_is_back_tells_of_its_last_restart() -> None:
    status = restarting()
    engine = replace(status.engine, state="ready", reason="")
    async with seeing(replace(status, engine=engine), LARGE) as watch:
        assert "last 4.0s ago: it made no progress" in watch.text


async def test_a_wide_table_tells_why_a_prefix_was_missed() -> None:
    async with seeing(BUSY, (200, 50)) as watch:
        assert "WHY NOT CACHED" in watch.text
        assert MISSED in watch.text


@pytest.mark.parametrize("size", [SMALL, LARGE, (300, 90), (60, 15), (100, 50)])
async def test_it_fits_every_size(size: tuple[int, int]) -> None:
    async with seeing(BUSY, size) as watch:
        assert "beef0001" in watch.text or "12%" in watch.text
        assert max(map(len, watch.text.splitlines())) <= size[0]


@pytest.mark.parametrize("size", [(40, 10), (59, 30), (100, 14), (10, 3), (1, 1)])
async def test_a_tiny_terminal_is_told_what_is_needed(size: tuple[int, int]) -> None:
    async with watching(BUSY, size) as watch:
        await watch.until(lambda: watch.app.status is not None)
        await watch.pilot.pause()
        assert "PROGRESS" not in watch.text
        if size[0] >= 40:
            assert "more needs 60x15" in watch.text


async def test_it_follows_the_terminal_when_it_grows() -> None:
    async with seeing(BUSY, (50, 10)) as watch:
        await watch.pilot.resize_terminal(*LARGE)
        await watch.until_shown("2 Queue 3", "dead0001", "5 Log")


async def test_numbers_come_live() -> None:
    async with seeing(BUSY) as watch:
        running = (decoding(0, tokens=777), *BUSY.running[1:])
        await watch.tell(with_running(*running))
        await watch.until_shown("777")


async def test_no_character_beyond_ascii_is_used_where_none_arrives() -> None:
    request = replace(decoding(0), model="模型", agent="ä\x1b[31m\u202e\n")
    ascii_only = Terminal(unicode=False, colors=FEW)
    async with seeing(with_running(request), LARGE, ascii_only) as watch:
        for key in ("escape", "question_mark", "escape", "enter", "escape", "c"):
            await watch.press(key)
            assert watch.text.isascii()


async def test_control_characters_of_clients_never_reach_the_terminal() -> None:
    request = replace(decoding(0), agent="evil\x1b]0;title\x07\r\n\x9b")
    async with seeing(with_running(request), LARGE) as watch:
        await watch.until_shown("evil ]0;tit")
        for key in ("enter", "c", "n"):
            assert all(line.isprintable() for line in watch.text.splitlines())
            await watch.press(key)


async def test_markup_of_clients_is_only_text() -> None:
    request = replace(decoding(0), agent="[red]x[/red]", id="req_[b]")
    async with seeing(with_running(request), LARGE) as watch:
        assert "[red]x[/red]" in watch.text
        await watch.press("enter")
        await watch.until_shown("Request req_[b]")
        await watch.press("escape", "c")
        await watch.until_shown("Cancel request req_[b] of [red]x[/red]?")


async def test_the_cursor_stays_on_its_request_wherever_it_goes() -> None:
    async with seeing(crowded(64), SMALL) as watch:
        await watch.press("down", "down", "down")
        assert watch.app.dashboard.running.current == decoding(3)
        await watch.tell(with_running(*crowded(64).running[2:]))
        assert watch.app.dashboard.running.cursor == 1
        await watch.tell(with_running())
        assert watch.app.dashboard.running.current is None


async def test_the_place_in_a_long_table_is_kept_while_it_changes() -> None:
    async with seeing(crowded(64), SMALL) as watch:
        await watch.press("end")
        await watch.until_shown("beef0001")
        place = watch.app.dashboard.running.scroll_y
        assert place > 40
        changed = tuple(
            replace(each, figures=replace(each.figures, completion_tokens=1_000))
            for each in crowded(64).engine.requests
        )
        await watch.tell(with_engine(crowded(64), requests=changed))
        assert watch.app.dashboard.running.scroll_y == place
        await watch.press("home")
        await watch.until_shown("00000000")


@pytest.mark.parametrize(
    ("keys", "cursor"),
    [
        (("j", "j", "k"), 1),
        (("pagedown",), 13),
        (("pagedown", "pageup"), 0),
        (("G",), 63),
        (("G", "g"), 0),
        (("up",), 0),
    ],
)
async def test_the_cursor_moves_by_keys(keys: tuple[str, ...], cursor: int) -> None:
    async with seeing(crowded(64), SMALL) as watch:
        await watch.press(*keys)
        assert watch.app.dashboard.running.cursor == cursor


async def test_every_pane_has_its_number_and_tab_goes_round() -> None:
    async with seeing(BUSY) as watch:
        dashboard = watch.app.dashboard
        for key, table in zip("12345", dashboard.tables, strict=True):
            await watch.press(key)
            assert dashboard.active is table
            assert watch.app.focused is table
        await watch.press("tab")
        assert dashboard.active is dashboard.running
        await watch.press("shift+tab", "shift+tab")
        assert dashboard.active is dashboard.models


async def test_a_small_terminal_shows_the_chosen_pane_alone() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("2")
        await watch.until_shown("WAITS", "dead0002")
        assert "PROGRESS" not in watch.text


async def test_zooming_shows_a_pane_alone_and_back() -> None:
    async with seeing(BUSY, LARGE) as watch:
        await watch.press("3", "z")
        await watch.until_gone("PROGRESS", "WAITS", "last 5m")
        assert "TURNS" in watch.text
        await watch.press("z")
        await watch.until_shown("PROGRESS", "WAITS", "TURNS")


async def test_sorting_goes_through_the_columns_and_turns_round() -> None:
    async with seeing(BUSY) as watch:
        table = watch.app.dashboard.running
        arrived = rows(watch)
        names = []
        for _ in range(len(table.columns) + 1):
            await watch.press("s")
            names.append(table.sorting.name)
        assert names == [*(column.name for column in table.columns), ""]
        assert rows(watch) == arrived
        await watch.press("r")
        assert rows(watch) == arrived[::-1]


async def test_numbers_are_sorted_with_the_highest_first() -> None:
    async with seeing(BUSY) as watch:
        while watch.app.dashboard.running.sorting.name != "tokens":
            await watch.press("s")
        tokens = [item.figures.completion_tokens for item in watch.app.dashboard.running.rows]
        assert tokens == sorted(tokens, reverse=True)
        assert "TOKEN▼" in watch.text


async def test_a_click_on_a_title_sorts_and_on_a_row_moves_the_cursor() -> None:
    async with seeing(BUSY) as watch:
        table = watch.app.dashboard.running
        await watch.pilot.click(table, offset=(2, 0))
        assert table.sorting.name == "id"
        await watch.pilot.click(table, offset=(2, 0))
        assert table.sorting.reverse
        await watch.pilot.click(table, offset=(5, 3))
        assert table.cursor == 2
        await watch.pilot.double_click(table, offset=(5, 3))
        await watch.until(lambda: isinstance(watch.app.screen, DetailScreen))


async def test_a_filter_keeps_matching_rows_and_escape_shows_all() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("slash", *"CODEX")
        await watch.until_gone("openai-py")
        assert rows(watch) == ["req_00000001"]
        await watch.press("enter", "enter")
        await watch.until_shown("Request req_00000001")
        await watch.press("escape", "escape")
        await watch.until_shown("openai-py", "1 Running 6")


async def test_letters_typed_into_the_filter_are_no_commands() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("slash", *"qpcs1")
        assert watch.app.is_running
        assert watch.app.dashboard.running.words == "qpcs1"
        assert rows(watch) == []


async def test_a_paused_picture_stands_still_and_then_catches_up() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("p")
        await watch.until_shown("PAUSED")
        await watch.tell(with_running(decoding(9, tokens=777)))
        assert "777" not in watch.text
        assert "beef0001" in watch.text
        await watch.press("p")
        await watch.until_shown("777", "live")


async def test_details_of_a_request_tell_its_way_and_why_the_cache_missed() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("down", "enter")
        await watch.until_shown(
            "Request req_00000001", "queue 400ms", "prefill 1.1s", "decode 9.5s", MISSED[:40]
        )
        await watch.tell(with_running(decoding(1, tokens=901)))
        await watch.until_shown("901 tokens of at most 1.0k")


async def test_details_stay_when_the_request_ends_and_say_how() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("enter")
        await watch.until_shown("state         decode")
        await watch.until_shown("c cancels")
        last = replace(BUSY.running[0], figures=RowFigures(completion_tokens=777))
        over = event("request.finished", "stop; 777 tokens", request="req_00000000")
        watch.server.happen(replace(over, last=last))
        await watch.tell(with_running())
        await watch.until_shown("state         stop; 777 tokens", "Request req_00000000")
        await watch.until_shown("answer        777 tokens")
        await watch.until_gone("c cancels")
        await watch.press("c")
        await watch.until(lambda: isinstance(watch.app.screen, DetailScreen))


async def test_the_log_has_one_line_a_request() -> None:
    async with seeing(BUSY) as watch:
        for phase in ("queued", "prefill", "decode", "finished"):
            watch.server.happen(event(f"request.{phase}", f"now {phase}", request="req_1"))
        await watch.press("5")
        await watch.until_shown("now finished")
        assert "now decode" not in watch.text


@pytest.mark.parametrize(
    ("pane", "words"),
    [
        ("2", ("Request req_dead0000", "queue 3.0s")),
        ("3", ("Conversation conv_0", "known by      conversation", "req_00000000 decode")),
        ("4", ("Model qwen3-4b", "40960 tokens", "mlx-community/Qwen3-4B")),
    ],
)
async def test_every_row_has_details(pane: str, words: tuple[str, ...]) -> None:
    async with seeing(BUSY) as watch:
        await watch.press(pane, "enter")
        await watch.until_shown(*words)
        await watch.press("escape")
        await watch.until(lambda: watch.app.screen is watch.app.dashboard)


async def test_the_log_shows_what_happens_and_all_of_a_long_line() -> None:
    async with seeing(BUSY) as watch:
        words = " ".join(f"word{number}" for number in range(30))
        watch.server.happen(event("log", words, level="error"))
        await watch.press("5")
        await watch.until_shown("word0")
        assert "word29" not in watch.text
        await watch.press("enter")
        await watch.until_shown("word29", "level         error")


async def test_the_log_follows_its_end_until_the_cursor_leaves_it() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("5")
        for number in range(40):
            watch.server.happen(event("log", f"line {number};"))
        await watch.until_shown("line 39;")
        await watch.press("home")
        watch.server.happen(event("log", "line 40;"))
        await watch.until_shown("5 Log 41")
        assert "line 0;" in watch.text
        assert "line 40;" not in watch.text


@pytest.mark.parametrize("key", ["question_mark", "h", "f1"])
async def test_help_opens_and_closes(key: str) -> None:
    async with seeing(BUSY) as watch:
        await watch.press(key)
        await watch.until(lambda: isinstance(watch.app.screen, HelpScreen))
        assert "cancel the request" in watch.text
        await watch.press("question_mark")
        await watch.until(lambda: watch.app.screen is watch.app.dashboard)


@pytest.mark.parametrize("colors", [FEW, 2**24])
async def test_the_theme_goes_from_dark_to_light_and_back(colors: int) -> None:
    async with seeing(BUSY, LARGE, Terminal(colors=colors)) as watch:
        assert watch.app.current_theme.dark
        await watch.press("t")
        assert not watch.app.current_theme.dark
        assert "beef0001" in watch.text
        await watch.press("t")
        assert watch.app.current_theme.dark


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_it_is_left_with_a_key(key: str) -> None:
    async with seeing(BUSY) as watch:
        await watch.press(key)
        await watch.until(lambda: not watch.app.is_running)
        assert watch.app.return_value == 0
