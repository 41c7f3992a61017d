"""The page about coding agents, made from the table that `mlxd launch` uses."""

from collections.abc import Iterator
from pathlib import Path

from mlxd.launch.agent import Agent, Endpoint, Places, shortened
from mlxd.launch.agents import AGENTS
from mlxd.launch.by_hand import addition_by_hand, command_by_hand, launch_by_hand

TO = Endpoint("http://127.0.0.1:8484", "qwen", 32768)
HOME = Path("/home/you")

HEAD = """\
# Coding agents

```
mlxd launch claude
```

starts an agent on a model of this server; `mlxd launch --list` has the others. `python -m
docs.generate` writes this page from the table that the command uses.

**Which model.** `--model NAME` is one of the server's; without it, its default. If no server runs,
one is started as by `mlxd run`, and stopped when the agent ends, unless it is answering something
else then or `--keep` is given. The model is loaded first, because only then the size of its window
is known, and the agent is told that size: most guess too much. An agent's first prompt has
thousands of tokens, which have to be read once; later turns read only what is new. A window that is
smaller than the first prompt stops the launch (`--force`); give the model a larger
`context_length`. Names for which agents send other tools and prompts (`gpt-5*`, `gpt-6*`,
`claude-*`), or take another model (`opus`, `default`), are refused: use a name of your own.

**What is changed: nothing of yours.** A launch is an environment, flags, and files in mlxd's own
state folder; what is behind `--` is for the agent. Where a proxy is set, this server is made an
exception of it. The first of `server.api_keys` goes along in the environment (in a file that only
you can read where the agent takes it from nowhere else), never in the command line. Codex's
profile is a file of ours beside its own, `mlxd.config.toml`. pi alone takes models only from a file
of yours, and you are asked first.

**To have it in the agent's own configuration,** `mlxd launch AGENT --config-only` adds one entry
named `mlxd`, changes no default, and prints the command that uses it. No key is written: the entry
names `MLXD_API_KEY`. Every other byte of the file stays as it is. A file is left alone, and the
lines are shown instead, if it is not understood (comments in JSON, or broken), is read-only or
another account's, has a second hard link, or has an entry `mlxd` already that is somebody's own.
`--undo` brings back the file as it was, or takes out only the entry if you have changed the file
since. `--print` shows what would be done and does nothing.

It ends with 2 for a name that can't be used, 4 if the agent is not installed (mlxd runs no
installer), 1 for whatever else keeps it from starting, and else as the agent does.

In a container on this machine the base URL is `http://host.docker.internal:8484`, or what the
container's engine calls its host; all names below `.internal` are served. Desktop apps may call by
their own origins (`app://`, `file://`, `tauri://`, `vscode-webview://`, `vscode-file://`,
`capacitor://localhost`). Other names and origins are refused; the log says which, and what to set.
`/v1` in the base URL too few or too many does no harm.

| agent | run with mlxd | first prompt, tokens | install |
|---|---|---|---|
"""

BY_HAND = """
## By hand

What a launch does, and what `--config-only` writes, for a model `qwen` with a window of 32768:

```toml
[models.qwen]
source = "mlx-community/Qwen3-4B-Instruct-2507-4bit"
```

Names of files are for Linux; what is in mlxd's state folder may be anywhere.
"""


def agents_md() -> str:
    """The page."""
    rows = "".join(
        f"| `{agent.name}`: {agent.title} | {agent.version or 'no'} | "
        f"{agent.first_prompt or ''} | `{agent.install}` |\n"
        for agent in AGENTS
    )
    return HEAD + rows + BY_HAND + "".join(_section(agent) for agent in AGENTS)


def _section(agent: Agent) -> str:
    return "\n".join([f"\n### {agent.title}\n", *_parts(agent)])


def _parts(agent: Agent) -> Iterator[str]:
    at = Places(HOME, HOME / ".local/state/mlxd/launch" / agent.name, {})
    if agent.note:
        yield f"{agent.note}\n"
    if agent.smaller:
        yield f"For small windows and slow machines: {agent.smaller}.\n"
    addition = agent.addition(TO, at)
    if agent.start is not None and not agent.starts_from_file:
        yield f"```\n{launch_by_hand(agent, TO, at)}```\n"
        if addition.block in agent.start(TO, at).files.values():
            file = shortened(addition.file, at.home)
            use = command_by_hand(addition.use, at).strip()
            yield f"`--config-only` writes the same file as `{file}`, for `{use}`.\n"
            return
        yield "In its own configuration:\n"
    yield f"```\n{addition_by_hand(agent, TO, at)}```\n"
