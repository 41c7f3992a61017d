"""The colours of the terminal apps, dark and light, and for terminals with sixteen of their own."""

from textual.theme import Theme

from mlxd.tui.terminal import MANY, Terminal

DARK = Theme(
    name="mlxd-dark",
    primary="#5fafd7",
    secondary="#87afaf",
    accent="#d7af5f",
    success="#87af5f",
    warning="#d7af5f",
    error="#d75f5f",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
    dark=True,
)
LIGHT = Theme(
    name="mlxd-light",
    primary="#005f87",
    secondary="#3a6b6b",
    accent="#875f00",
    success="#3a6b00",
    warning="#875f00",
    error="#af0000",
    foreground="#262626",
    background="#ffffff",
    surface="#f4f4f4",
    panel="#e4e4e4",
    dark=False,
)
OURS = (DARK, LIGHT)
"""To be registered by every app."""


def theme_names(terminal: Terminal) -> tuple[str, str]:
    """The themes for a terminal: the one to begin with, and the one to switch to."""
    if terminal.colors >= MANY:
        dark, light = DARK.name, LIGHT.name
    else:
        dark, light = "ansi-dark", "ansi-light"
    return (light, dark) if terminal.light else (dark, light)
