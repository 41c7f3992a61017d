"""Numbers and texts as a dashboard shows them: short, of steady width, and without surprises."""

from rich.cells import cell_len, set_cell_size

from mlxd.tui.terminal import Glyphs

MINUTE, HOUR, DAY = 60, 3600, 86400
MANY_DAYS = 100
UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def span(seconds: float) -> str:
    """A duration in at most six characters: `80ms`, `1.2s`, `45s`, `3m05s`, `2h07m`, `3d04h`."""
    if seconds <= 0:
        return "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    days = whole // DAY
    return f"{days}d{whole % DAY // HOUR:02}h" if days < MANY_DAYS else f"{days}d"


def count(number: float) -> str:
    """A number of tokens or requests in at most five characters: `999`, `1.2k`, `128k`, `3.4M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What rounds up to the next unit belongs to it.
        if number >= size * (0.9995 if size > 1e3 else 1) and number >= 1000:
            scaled = number / size
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{max(0, number):.0f}"


def rate(per_second: float) -> str:
    """Tokens a second: one decimal below ten, as `count` above."""
    return f"{per_second:.1f}" if 0 < per_second < 9.95 else count(per_second)


def size(number: float) -> str:
    """Bytes in decimal units, with one decimal below ten."""
    scaled = max(0.0, number)
    for unit in UNITS:
        if scaled < 999.5 or unit == UNITS[-1]:
            break
        scaled /= 1000
    digits = 1 if unit != "B" and scaled < 9.95 else 0
    return f"{scaled:.{digits}f} {unit}"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; nothing of nothing is no share."""
    return f"{min(max(part / whole, 0.0), 1.0):.0%}" if whole > 0 else ""


def fraction(part: float, whole: float) -> float:
    """A part of a whole between 0 and 1."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


def bar(filled: float, width: int, glyphs: Glyphs) -> str:
    """A bar of `width` cells; what has begun shows, and what is not done is not full."""
    cells = round(filled * width)
    if 0 < filled < 1:
        cells = min(max(cells, 1), width - 1)
    return glyphs.full * cells + glyphs.empty * (width - cells)


def fit(text: str, width: int, glyphs: Glyphs, *, right: bool = False) -> str:
    """`text` in exactly `width` cells, cut with a mark where it is too long."""
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + glyphs.cut if width > 0 else ""
    blank = " " * (width - length)
    return blank + text if right else text + blank


def plural(number: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
