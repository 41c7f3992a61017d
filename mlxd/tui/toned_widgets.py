"""Widgets that draw lines of toned text themselves: nothing but what has changed is drawn again."""

from collections.abc import Sequence
from typing import ClassVar, get_args

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from mlxd.tui.toned_text import Line, Tone, TonedSpan

TONES: tuple[Tone, ...] = get_args(Tone)


class Toned(Widget):
    """A widget that knows its theme's style for each tone."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"toned--{tone}" for tone in TONES} | {
        "toned--cursor",
        "toned--cursor-blurred",
    }
    DEFAULT_CSS = """
    Toned {
        &> .toned--title { text-style: bold; }
        &> .toned--dim { color: $foreground 60%; }
        &> .toned--good { color: $success; }
        &> .toned--warn { color: $warning; }
        &> .toned--bad { color: $error; text-style: bold; }
        &> .toned--accent { color: $accent; }
        &> .toned--prefill { color: $secondary; }
        &> .toned--decode { color: $primary; }
        &> .toned--cursor { background: $primary 40%; text-style: bold; }
        &> .toned--cursor-blurred { background: $foreground 10%; }
        &:ansi {
            &> .toned--dim { color: ansi_default; text-style: dim; }
            &> .toned--cursor { background: ansi_default; text-style: reverse; }
            &> .toned--cursor-blurred { background: ansi_default; text-style: underline; }
        }
    }
    """

    def __init__(self, identity: str) -> None:
        super().__init__(id=identity)
        self._styles_of_tones: dict[str, Style] = {}
        self.stale = False

    def style_of(self, tone: str) -> Style:
        """The style of a tone; what is stale is dim."""
        found = self._styles_of_tones.get(tone)
        if found is None:
            found = self.get_component_rich_style(f"toned--{tone}")
            if tone.startswith("cursor"):
                # It goes over the tones of a row, and keeps their colours.
                found = found.without_color + Style(bgcolor=found.bgcolor)
            else:
                background = self.rich_style.bgcolor
                found = found.without_color + Style(color=found.color, bgcolor=background)
            if self.stale:
                found = found + Style(dim=True)
            self._styles_of_tones[tone] = found
        return found

    def strip_of(self, line: Sequence[TonedSpan], width: int, over: Style | None = None) -> Strip:
        """A line as Textual draws it, with a style over all of it."""
        strip = Strip([Segment(text, self.style_of(tone)) for text, tone in line])
        strip = strip.adjust_cell_length(width, self.style_of("plain"))
        return strip if over is None else Strip(Segment.apply_style(strip, post_style=over), width)

    def set_stale(self, stale: bool) -> None:
        """Show that what is seen is of an earlier time."""
        if stale != self.stale:
            self.stale = stale
            self.restyle()

    def restyle(self) -> None:
        """Draw everything again, in the styles of now."""
        self._styles_of_tones.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles_of_tones.clear()


class Lines(Toned):
    """Some lines of text."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity)
        self.lines: list[Line] = []

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines."""
        before, self.lines = self.lines, list(lines)
        for y in range(max(len(before), len(self.lines))):
            if self.lines[y : y + 1] != before[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else []
        return self.strip_of(line, self.size.width)
