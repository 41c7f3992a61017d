"""What constrained answers cost: in a decode step, and before it."""

import json
import subprocess
import sys
from collections.abc import Iterator

from bench.plan import Plan
from bench.report import Figure

STEP_GOAL = 0.95
"""A step with constrained rows takes at most one twentieth longer."""
COMPILE_GOAL = 50.0


def grammar_cost(plan: Plan) -> Iterator[Figure]:
    """Steps of eight rows with and without grammars, and a schema of 100 properties."""
    command = [sys.executable, "-m", "bench.with_blas", "bench.grammar_worker"]
    done = subprocess.run(
        [*command, str(plan.model), str(plan.rounds)], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, list[float]] = json.loads(done.stdout)
    free = figures["free"]
    for rows, name in ((1, "one"), (8, "all")):
        plan.say(f"grammar, {rows} of 8 rows: {min(figures[name]):.1f} ms, free {min(free):.1f} ms")
        samples = list(zip(figures[name], free, strict=True))
        yield Figure(f"decode step with {rows} constrained", "ms", STEP_GOAL, samples, 8)
    compiles = [(each, None) for each in figures["compile"]]
    yield Figure("schema of 100 properties compiled", "ms", COMPILE_GOAL, compiles)
