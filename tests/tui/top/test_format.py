"""Numbers, bars, charts and columns: pure functions, held to what every picture relies on."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from mlxd.status import ModelInfo, RowFigures, Second
from mlxd.tui.format import bar, count, fit, fraction, rate, share, size, span
from mlxd.tui.terminal import ASCII, FEW, MANY, TRUE, UNICODE, Glyphs, Terminal, terminal_of
from mlxd.tui.toned_text import Line, apart, cut, joined, length, plain, wrapped
from mlxd.tui.top.chart import KEPT, Timeline, columns, plot, span_for, top_of
from mlxd.tui.top.columns import GAP, Sorting, matches, widths
from mlxd.tui.top.details import model_lines
from mlxd.tui.top.tables import (
    conversation_columns,
    log_columns,
    model_note,
    prefill_fraction,
    running_columns,
    waiting_columns,
    with_titles,
)
from tests.tui.pictures import BUSY, PREFILLING, decoding

GLYPHS = st.sampled_from([UNICODE, ASCII])
SECONDS = st.floats(0, 1e9)
LINES = st.lists(st.tuples(st.text(max_size=12), st.just("plain")), max_size=6)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.0804, "80ms"),
        (0.9996, "1.0s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (273_600, "3d04h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *((0, "0"), (999, "999"), (1000, "1.0k"), (9_950, "10k"), (128_000, "128k")),
        *((999_600, "1.0M"), (3_400_000, "3.4M"), (2e9, "2.0G"), (-5, "0")),
    ],
)
def test_counts_are_short(number: float, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (999_600, "1.0 MB"), (19e9, "19 GB")],
)
def test_sizes_are_short(number: float, shown: str) -> None:
    assert size(number) == shown


@given(SECONDS)
def test_no_number_outgrows_its_column(number: float) -> None:
    assert len(span(number)) <= 6
    assert len(count(number)) <= 5
    assert len(rate(number)) <= 5
    assert len(size(number)) <= 7


def test_rates_below_ten_have_a_decimal() -> None:
    assert [rate(0), rate(0.04), rate(9.94), rate(9.96), rate(1234)] == [
        *("0", "0.0", "9.9", "10", "1.2k")
    ]


@given(st.floats(0, 1), st.integers(2, 40), GLYPHS)
def test_a_bar_is_full_only_when_all_is_done(done: float, width: int, glyphs: Glyphs) -> None:
    drawn = bar(done, width, glyphs)
    assert len(drawn) == width
    assert (drawn == glyphs.full * width) == (done == 1)
    assert (drawn == glyphs.empty * width) == (done == 0)


def test_shares_are_never_beyond_the_whole() -> None:
    assert [share(3, 4), share(9, 4), share(-1, 4), share(1, 0)] == ["75%", "100%", "0%", ""]
    assert [fraction(9, 4), fraction(1, 0), fraction(-1, 2)] == [1, 0, 0]


@given(st.text(), st.integers(0, 30), GLYPHS, st.booleans())
def test_a_fitted_text_has_exactly_its_width(
    text: str, width: int, glyphs: Glyphs, right: bool
) -> None:
    assert cell_len(fit(glyphs.clean(text), width, glyphs, right=right)) == width


@given(st.text(), GLYPHS)
def test_cleaned_text_is_one_printable_line(text: str, glyphs: Glyphs) -> None:
    clean = glyphs.clean(text)
    assert clean.isprintable()
    assert clean.isascii() or glyphs is UNICODE


@given(LINES, st.integers(0, 40), GLYPHS)
def test_a_cut_line_is_a_beginning_that_fits(line: Line, width: int, glyphs: Glyphs) -> None:
    line = [(glyphs.clean(text), tone) for text, tone in line]
    assert length(cut(line, width, glyphs)) <= width
    if length(line) <= width:
        assert plain(cut(line, width, glyphs)) == plain(line)


@given(st.lists(LINES, max_size=4), st.integers(0, 60))
def test_joined_groups_fit_and_are_whole(groups: list[Line], width: int) -> None:
    groups = [[(UNICODE.clean(text), tone) for text, tone in group] for group in groups]
    assert length(joined(groups, width, UNICODE)) <= width


def test_what_does_not_fit_is_left_out_and_what_fits_behind_it_stays() -> None:
    groups: list[Line] = [[("one", "plain")], [("a" * 50, "plain")], [("two", "plain")]]
    assert plain(joined(groups, 12, ASCII)) == "one | two"
    assert plain(apart([("left" * 9, "plain")], [("end", "dim")], 12, ASCII)) == "leftlef~ end"


@given(LINES, st.integers(1, 40))
def test_wrapped_lines_fit_and_lose_no_word(line: Line, width: int) -> None:
    line = [(UNICODE.clean(text), tone) for text, tone in line]
    lines = wrapped(line, width, UNICODE)
    assert all(length(each) <= width for each in lines)


def test_a_notice_is_broken_between_words() -> None:
    lines = wrapped([("No server answers. ", "bad"), ("Start one.", "title")], 14, ASCII)
    assert [plain(each).strip() for each in lines] == ["No server", "answers. Start", "one."]


@pytest.mark.parametrize("total", range(10, 200, 7))
def test_columns_never_take_more_than_there_is(total: int) -> None:
    for each in (
        widths(running_columns(ASCII), total),
        widths(waiting_columns(), total),
        widths(conversation_columns(), total),
        widths(log_columns(), total),
    ):
        shown = [width for width in each if width]
        assert sum(shown) + GAP * (len(shown) - 1) <= total
        assert shown


def test_a_wide_table_shows_every_column_and_uses_the_width() -> None:
    shown = widths(running_columns(ASCII), 160)
    assert all(shown)
    assert sum(shown) + GAP * (len(shown) - 1) == 160


def test_equal_items_stay_in_the_order_of_arrival_both_ways() -> None:
    items = [decoding(number) for number in (0, 1, 2)]
    table = running_columns(ASCII)
    for sorting in (Sorting("model"), Sorting("model", reverse=True)):
        assert sorting.apply(items, table) == items
    assert Sorting("age").apply(items, table) == items[::-1]
    assert Sorting("age", reverse=True).apply(items, table) == items
    assert Sorting("", reverse=True).apply(items, table) == items[::-1]


def test_a_filter_wants_every_word_in_any_case() -> None:
    table = running_columns(ASCII)
    found = [each.id for each in BUSY.running if matches(each, table, "CODEX decode")]
    assert found == ["req_00000001"]
    assert all(matches(each, table, "  ") for each in BUSY.running)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 12), GLYPHS)
def test_a_chart_has_its_size_and_every_value_shows(
    values: list[float], height: int, glyphs: Glyphs
) -> None:
    lines = plot(values, height, top_of(values), glyphs)
    assert [len(line) for line in lines] == [len(values)] * height
    for column, value in enumerate(values):
        assert (lines[-1][column] != " ") == (value > 0)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30), GLYPHS)
def test_a_higher_value_is_never_drawn_lower(values: list[float], glyphs: Glyphs) -> None:
    ordered = sorted(values)
    lines = plot(ordered, 5, top_of(ordered), glyphs)
    heights = [
        sum(glyphs.levels.index(line[column]) for line in lines) for column in range(len(ordered))
    ]
    assert all(one <= other for one, other in pairwise(heights))


@given(st.lists(st.floats(0, 1e9), max_size=20))
def test_the_top_of_the_scale_is_round_and_above_all(values: list[float]) -> None:
    top = top_of(values)
    assert top >= max(values, default=0)
    assert f"{top:.0e}"[0] in "125"


def test_a_column_keeps_its_value_while_it_moves() -> None:
    seconds = [(100.0 + at, 10.0) for at in range(20)]
    early = columns(seconds[:11], 6, 5, 110.0)
    late = columns(seconds[:16], 6, 5, 115.0)
    assert early[3:] == [10, 10, 10]
    assert late[2:] == [10, 10, 10, 10]


def test_seconds_that_nobody_reported_count_as_zero() -> None:
    assert columns([(100.0, 50.0), (105.0, 8.0)], 2, 5, 105.0) == [10.0, 8.0]


def test_every_chart_shows_the_last_minutes() -> None:
    assert all(span_for(width) * width >= 180 for width in range(10, 400))


def test_the_timeline_corrects_seconds_and_forgets_the_oldest() -> None:
    timeline = Timeline()
    timeline.put(Second(1000.0 + at, 1.0, 2.0) for at in range(2 * KEPT))
    timeline.put([Second(1000.4 + 2 * KEPT - 1, 7.0, 0.0)])
    values = dict(timeline.decode())
    assert len(values) == KEPT
    assert values[1000.4 + 2 * KEPT - 1] == 7.0
    assert dict(timeline.prefill())[1000.0 + 2 * KEPT - 2] == 2.0


@pytest.mark.parametrize(
    ("environment", "terminal"),
    [
        ({}, Terminal(unicode=False, colors=FEW)),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, Terminal(unicode=False, colors=FEW)),
        ({"LANG": "C.UTF-8", "TERM": "screen"}, Terminal(colors=FEW)),
        ({"LANG": "de_DE.utf8", "TERM": "xterm-256color"}, Terminal(colors=MANY)),
        ({"LC_CTYPE": "UTF-8", "COLORTERM": "truecolor"}, Terminal(colors=TRUE)),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C", "TERM": "vt100"}, Terminal(False, FEW)),
        ({"LANG": "C.UTF-8", "COLORFGBG": "0;15"}, Terminal(colors=FEW, light=True)),
        ({"LANG": "C.UTF-8", "COLORFGBG": "15;0"}, Terminal(colors=FEW)),
    ],
)
def test_the_environment_tells_the_terminal(
    environment: dict[str, str], terminal: Terminal
) -> None:
    assert terminal_of(environment) == terminal


@pytest.mark.parametrize(("prefilled", "done"), [(80, 0.0), (85, 0.25), (100, 1.0)])
def test_the_progress_of_prefill_leaves_out_what_was_cached(prefilled: int, done: float) -> None:
    figures = RowFigures(prompt_tokens=100, cached_tokens=80, prefilled_tokens=prefilled)
    assert prefill_fraction(replace(PREFILLING, figures=figures)) == done


def test_dialects_are_shown_by_their_titles() -> None:
    server = replace(BUSY.server, dialects={"new_api": "new"})
    request = replace(PREFILLING, dialect="new_api")
    status = replace(BUSY, server=server, engine=replace(BUSY.engine, requests=(request,)))
    assert with_titles(status).engine.requests == (replace(request, dialect="new"),)
    assert with_titles(BUSY) == BUSY


def test_a_model_that_is_served_one_request_at_a_time_says_so() -> None:
    lone = ModelInfo("m", source="demo", state="loaded", unbatched="ValueError")
    assert model_note(lone) == "one at a time demo"
    lines = ["".join(text for text, _ in line) for line in model_lines(lone, UNICODE)]
    assert any("one at a time: ValueError" in line for line in lines)
    assert model_note(replace(lone, unbatched="", default=True)) == "default demo"
