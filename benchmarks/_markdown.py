"""Markdown of the tables in the documents, for the reports of all benchmarks."""

import numpy as np


def spread(values, digits=3):
    """Return mean, lowest and highest value as text, or a single value alone."""
    low, mean, high = min(values), np.mean(values), max(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def spreads(rows, digits):
    """Return ``spread`` of each column of ``rows``; ``digits`` is {column: digits}."""
    return [spread([row[key] for row in rows], n) for key, n in digits.items()]


def table(header, rows):
    """Return a Markdown table; ``header`` and each row are lists of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def how(results, shown="mean (lowest to highest)"):
    """Return the line below a table: command, seeds, what is shown, machine."""
    n_seeds = len({row["seed"] for row in results["rows"] if "seed" in row})
    seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}; {shown}; " if n_seeds else ""
    return (
        f"`{results['command']}`; {seeds}{results['cores']} cores, "
        f"torch {results['torch']}, Python {results['python']}."
    )


def paragraphs(*parts):
    """Return the parts as one text, with an empty line between two parts."""
    return "\n\n".join(parts)
