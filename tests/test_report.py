import subprocess
import sys
from pathlib import Path

import pytest

REPORT = Path(__file__).parent.parent / "benchmarks" / "report.py"


@pytest.mark.skipif(not REPORT.exists(), reason="benchmarks are not installed")
def test_tables_in_the_documents_are_those_of_the_results():
    command = [sys.executable, REPORT, "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
