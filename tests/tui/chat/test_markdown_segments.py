"""Long Markdown in segments."""

from hypothesis import given
from hypothesis import strategies as st

from mlxd.tui.chat.markdown_segments import MarkdownSplitter

LINES = st.sampled_from(
    [
        "",
        "text",
        "- item",
        "    indented",
        "```",
        "```python",
        "~~~",
        "~~~~",
        "## Head",
        "``` x",
        "`",
    ]
)


def segments(*texts: str, limit: int = 10) -> list[str]:
    """The segments that `texts` are cut into."""
    found = [""]
    cut = MarkdownSplitter(limit)
    for piece in (piece for text in texts for piece in cut.feed(text)):
        if piece.new:
            found[-1] += piece.closing
            found.append("")
        found[-1] += piece.text
    return found


def test_text_is_cut_between_blocks() -> None:
    assert segments("A paragraph.\n\nAnother.\n") == ["A paragraph.\n\n", "Another.\n"]
    assert segments("A paragraph\nof two lines.\n") == ["A paragraph\nof two lines.\n"]


def test_what_is_indented_stays_with_its_list() -> None:
    text = "- an item of a list\n\n  its second paragraph\n"
    assert segments(text) == [text]


def test_a_code_block_is_closed_and_opened_again() -> None:
    assert segments("```python\na = 1\nb = 2\n```\n") == [
        "```python\na = 1\n```\n",
        "```python\nb = 2\n```\n",
    ]


def test_a_blank_line_in_code_is_no_end_of_a_block() -> None:
    text = "~~~~\n\n~~~\n"
    assert segments(text, "x\n", limit=50) == [f"{text}x\n"]


@given(st.lists(LINES, max_size=30).map("\n".join), st.lists(st.integers(0, 200), max_size=8))
def test_how_the_text_arrives_makes_no_difference(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    assert segments(*pieces) == segments(text)


@given(st.lists(LINES, max_size=30).map("\n".join))
def test_no_text_is_lost(text: str) -> None:
    told = "".join(segments(text))
    lost = iter(told)
    assert all(letter in lost for letter in text)
