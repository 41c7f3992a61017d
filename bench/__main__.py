"""The command line of the measurements: which parts, how many rounds, where the figures go."""

import argparse
import datetime
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from bench.admin import watching
from bench.agent import agent_turns
from bench.beside import beside_a_prompt
from bench.ceiling import event_ceiling
from bench.dashboard import dashboard
from bench.grammar import grammar_cost
from bench.plan import Plan
from bench.processes import LOG
from bench.report import PAGE, Figure, machine, table, versions, write_page
from bench.startup import start_and_memory
from bench.throughput import against_peer, against_raw
from mlxd.engine.model_files.library import locate

Part = Callable[[Plan], Iterator[Figure]]
PARTS: dict[str, Part] = {
    "start": start_and_memory,
    "events": event_ceiling,
    "raw": against_raw,
    "peer": against_peer,
    "beside": beside_a_prompt,
    "agent": agent_turns,
    "grammar": grammar_cost,
    "admin": watching,
    "top": dashboard,
}


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, end_servers_too)
    LOG.write_bytes(b"")
    plan = Plan(
        model=arguments.model,
        rounds=arguments.rounds,
        tokens=arguments.tokens,
        turns=arguments.turns,
    )
    started = time.perf_counter()
    figures = [figure for name in arguments.parts or PARTS for figure in PARTS[name](plan)]
    minutes = (time.perf_counter() - started) / 60
    text = f"{heading(plan, minutes)}\n\n{table(figures)}"
    print(f"\n{text}")
    if arguments.write:
        write_page(text, arguments.parts)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take the median of")
    parser.add_argument(
        "--model", type=Path, default=locate("demo"), help="mlx-lm folder (default: the demo model)"
    )
    parser.add_argument("--tokens", type=int, default=96, help="length of an answer")
    parser.add_argument("--turns", type=int, default=20, help="turns of an agent's conversation")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}: one of {', '.join(PARTS)}")
    if arguments.model is None:
        parser.error("the demo model is not here: `mlxd pull demo`, or name another with --model")
    return arguments


def heading(plan: Plan, minutes: float) -> str:
    """What was measured, on what, how."""
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    options = [option for option in sys.argv[1:] if option != "--write"]
    command = shlex.join(["make", "bench", *([f"BENCH={shlex.join(options)}"] if options else [])])
    return (
        f"{day}, `{command}`, medians of {plan.rounds} interleaved rounds in one run of "
        f"{minutes:.0f} minutes.\n{machine()}.\n{versions()}."
    )


def end_servers_too(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that every `with` block ends its process."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
