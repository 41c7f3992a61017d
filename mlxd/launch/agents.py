"""The table of agents: all that `mlxd launch`, its `--print` and docs/agents.md know of each.

Versions are those that were run with mlxd, prompts were counted then; agents without a version are
here after their own documentation. Keys are never written into a file that is the user's.
"""

from mlxd.launch import editors, open_agents, terminal_tools, vendors
from mlxd.launch.agent import Agent

AGENTS = (*vendors.AGENTS, *open_agents.AGENTS, *terminal_tools.AGENTS, *editors.AGENTS)


def agent_named(name: str) -> Agent | None:
    """The row of a name, or of another name of the same program."""
    return next((each for each in AGENTS if name in (each.name, *each.also)), None)
