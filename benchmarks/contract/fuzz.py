"""Fit many random data sets and parameters; count fits, refusals and failures.

The cases and the property that must hold come from tests/fuzzing.  Failures are counted
by the place in the code that raised them.  For each place a small case is searched and
stored as code, to be run by ``outcome(Case(...))``.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks._common import ROOT, save

sys.path.insert(0, str(ROOT / "tests"))
import fuzzing

# Hypothesis avoids equal examples within a chunk.  Each chunk has its own seed.
CHUNK = 500


class Found(Exception):
    """Raised so that Hypothesis shrinks the case that fails."""


def arguments():
    """Return the parsed options: the number of examples and the first seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk")
    return parser.parse_args()


def explore(check, n_examples, seed, *more_phases):
    """Call ``check`` with ``n_examples`` random cases, determined by ``seed``.

    ``more_phases`` are phases of Hypothesis besides the generation of cases.
    """
    configured = settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *more_phases],
    )
    hypothesis.seed(seed)(configured(given(fuzzing.cases())(check)))()


def judged(case):
    """Return (outcome, None) of a case, or ("failed", key of the failure)."""
    try:
        return fuzzing.outcome(case), None
    except Exception as error:
        return "failed", fuzzing.failure_key(error)


def shrunk(failure, n_examples, seed):
    """Return the repr of the smallest case found with this failure, or None.

    The search repeats the chunk of ``n_examples`` cases with this seed.
    """
    found = []

    def check(case):
        if judged(case)[1] == failure:
            found.append(case)
            raise Found

    with suppress(Found):
        explore(check, n_examples, seed, Phase.shrink)
    return repr(found[-1]) if found else None


class Tally:
    """Counts of outcomes by properties of the cases, and of failures by their key."""

    def __init__(self):
        self.counts = defaultdict(Counter)
        self.failures, self.seeds = Counter(), {}

    def explore(self, n_examples, seed):
        """Fit ``n_examples`` random cases, determined by ``seed``, and count them."""
        explore(lambda case: self.add(case, seed), n_examples, seed)

    def add(self, case, seed):
        """Fit one case and count its outcome; ``seed`` is the seed of its chunk."""
        result, failure = judged(case)
        group = result.split(":")[0]
        self.counts["outcome", result][group] += 1
        self.counts["data", case.data.kind][group] += 1
        self.counts["dtype", case.data.dtype][group] += 1
        if failure:
            self.failures[failure] += 1
            self.seeds.setdefault(failure, seed)

    def rows(self):
        """Return the counts as rows, one for each value of each property."""
        return [
            {"by": by, "value": value, "examples": counts.total(), **counts}
            for (by, value), counts in sorted(self.counts.items())
        ]


def main():
    """Run all examples and save the counts of outcomes."""
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
        "contract/fuzz",
        tally.rows(),
        hypothesis=hypothesis.__version__,
        examples=sum(row["examples"] for row in tally.rows() if row["by"] == "data"),
        seconds=round(seconds, 1),
        n_failures=tally.failures.total(),
        failures=failures,
    )


if __name__ == "__main__":
    main()
