"""Write the tables of docs/ and README.md from benchmarks/results/.

Run it with ``python -m benchmarks.report``.  With ``--check`` nothing is written, and
files whose tables are out of date are named.  A table stands between
``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.  The folders of benchmarks/ make the
tables; see TABLES in their ``_report.py``.
"""

import re
import sys

from benchmarks._common import ROOT
from benchmarks.contract import _report as contract
from benchmarks.distribution import _report as distribution
from benchmarks.images import _report as images
from benchmarks.outliers import _report as outliers
from benchmarks.speed import _report as speed
from benchmarks.tables import _report as tables

DOCUMENTS = "results", "defaults", "contract", "practice", "outliers"
FILES = ["README.md", *(f"docs/{name}.md" for name in DOCUMENTS)]

# Name of a table -> function without parameters that returns it as Markdown.
TABLES = {
    **speed.TABLES,
    **distribution.TABLES,
    **tables.TABLES,
    **images.TABLES,
    **outliers.TABLES,
    **contract.TABLES,
}


def render(text):
    """Return the text of a document with a new table between each pair of marks."""

    def fill(found):
        name = found[1]
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        return f"{begin}\n{TABLES[name]()}\n{end}"

    return re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", fill, text, flags=re.S)


def main():
    """Write the documents, or with --check exit with the names of stale ones."""
    stale = []
    for name in FILES:
        path = ROOT / name
        old = path.read_text()
        new = render(old)
        if "--check" in sys.argv and new != old:
            stale.append(name)
        elif new != old:
            path.write_text(new)
    if stale:
        sys.exit(f"stale tables in {stale}: run python -m benchmarks.report")


if __name__ == "__main__":
    main()
