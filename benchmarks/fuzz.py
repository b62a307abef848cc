"""Random data and parameters in number: what became of them, and what failed.

Cases and the property are those of tests/fuzzing.py.  Each failure is counted under the
place it comes from, and shrunk to a small case that is code: ``outcome(Case(...))``.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import hypothesis
import torch
from _common import save
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import fuzzing

# Each has a seed of its own: within one, examples are made to differ from those before.
CHUNK = 500


class Found(Exception):
    """Tells Hypothesis what to make smaller."""


def arguments():
    """Return how many examples, and from which seed on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk")
    return parser.parse_args()


def explore(check, n_examples, seed, *more_phases):
    """Call ``check`` with cases; the same ones for the same seed."""
    configured = settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *more_phases],
    )
    hypothesis.seed(seed)(configured(given(fuzzing.cases())(check)))()


def judged(case):
    """Return the outcome of a case, or "failed" and where."""
    try:
        return fuzzing.outcome(case), None
    except Exception as error:
        return "failed", fuzzing.failure_key(error)


def shrunk(failure, n_examples, seed):
    """Return the smallest case found that fails in this way."""
    found = []

    def check(case):
        if judged(case)[1] == failure:
            found.append(case)
            raise Found

    with suppress(Found):
        explore(check, n_examples, seed, Phase.shrink)
    return repr(found[-1]) if found else None


class Tally:
    """Outcomes so far, by several properties of the cases."""

    def __init__(self):
        self.counts = defaultdict(Counter)
        self.failures, self.seeds = Counter(), {}

    def explore(self, n_examples, seed):
        """Judge so many cases and count them."""
        explore(lambda case: self.add(case, seed), n_examples, seed)

    def add(self, case, seed):
        """Judge one case and count it."""
        result, failure = judged(case)
        group = result.split(":")[0]
        self.counts["outcome", result][group] += 1
        self.counts["data", case.data.kind][group] += 1
        self.counts["dtype", case.data.dtype][group] += 1
        if failure:
            self.failures[failure] += 1
            self.seeds.setdefault(failure, seed)

    def rows(self):
        """Return counts, one row for each value of each property."""
        return [
            {"by": by, "value": value, "examples": counts.total(), **counts}
            for (by, value), counts in sorted(self.counts.items())
        ]


def main():
    """Run all examples and save what became of them."""
    args = arguments()
    torch.set_num_threads(1)
    tally, start = Tally(), time.process_time()
    edges = range(0, args.examples, CHUNK)
    for seed, done in enumerate(edges, start=args.seed):
        n_examples = min(CHUNK, args.examples - done)
        tally.explore(n_examples, seed)
        n_failed = tally.failures.total()
        print(f"{done + n_examples} examples, {n_failed} failed", flush=True)
    seconds = time.process_time() - start
    failures = [
        {"failure": name, "count": n, "case": shrunk(name, CHUNK, tally.seeds[name])}
        for name, n in tally.failures.most_common()
    ]
    save(
        "fuzz",
        tally.rows(),
        command=f"python benchmarks/fuzz.py --examples={args.examples} "
        f"--seed={args.seed}",
        hypothesis=hypothesis.__version__,
        examples=sum(row["examples"] for row in tally.rows() if row["by"] == "data"),
        seconds=round(seconds, 1),
        n_failures=tally.failures.total(),
        failures=failures,
    )


if __name__ == "__main__":
    main()
