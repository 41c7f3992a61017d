"""What `/help` says."""

from mlxd.tui.chat.slash_commands import COMMANDS

KEYS = (
    ("Enter", "send"),
    ("Ctrl+J", "begin a line; so do Shift+Enter and Alt+Enter in some terminals"),
    ("Up, Down", "earlier messages, from the first and last line"),
    ("Tab", "complete a command, a model, a file"),
    ("PageUp, PageDown", "scroll the conversation"),
    ("Ctrl-C", "stop the answer; else empty the prompt; twice: leave"),
    ("Ctrl+T", "unfold the last answer's reasoning"),
    ("F2", "light or dark"),
    ("Ctrl+D", "leave, on an empty prompt"),
    ("Ctrl+Z", "to the shell; fg comes back"),
)


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}}  {does}" for name, does in rows)


_COMMANDS = [(f"/{name} {usage.argument}".rstrip(), usage.does) for name, usage in COMMANDS.items()]
HELP = f"Keys\n{_table(list(KEYS))}\n\nCommands\n{_table(_COMMANDS)}"
