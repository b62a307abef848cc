"""Tables of the documents on the contract of scikit-learn and on random cases."""

from benchmarks._common import load
from benchmarks._markdown import how, paragraphs, table

OUTCOMES = ["examples", "fitted", "refused", "diverged", "failed"]


def contract():
    """Return a Markdown table: which parts of the contract each estimator keeps."""
    results = load("contract/checks")
    rows = [
        [
            f"{row['name']} {row['version']}",
            checks(row),
            "-" if row["ungenerated"] is None else f"{row['ungenerated']} of 11",
            row["repeatable"],
            ", ".join(row["rng_changed"]) or "none",
            row["pickle"],
            row["skops"],
            row["fork"],
        ]
        for row in results["rows"]
    ]
    header = ["estimator", "checks passed", "checks for scikit-learn only"]
    header += ["repeatable", "global generators changed"]
    header += ["pickle", "skops", "forked child"]
    versions = f"scikit-learn {results['scikit-learn']}, {how(results)}"
    return paragraphs(table(header, rows), versions)


def checks(row):
    """Return text: how many checks the estimator of this row passed and skipped."""
    if not row["total"]:
        return "none can be generated"
    skipped = f" ({row['skipped']} skipped)" if row["skipped"] else ""
    tag = ", non_deterministic" if row["non_deterministic"] else ""
    return f"{row['passed']} of {row['total']}{skipped}{tag}"


def fuzz():
    """Return a Markdown table of the counts of random cases by their outcome."""
    results = load("contract/fuzz")
    rows = [
        [row["value"], *(row.get(name) or 0 for name in OUTCOMES)]
        for row in results["rows"]
        if row["by"] == "data"
    ]
    text = f"{results['examples']} examples, {results['n_failures']} failures:"
    return paragraphs(text, table(["data", *OUTCOMES], rows), how(results))


TABLES = {"contract": contract, "fuzz": fuzz}
