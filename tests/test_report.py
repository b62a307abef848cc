import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="benchmarks are not installed"
)
def test_tables_in_the_documents_are_those_of_the_results():
    command = [sys.executable, "-m", "benchmarks.report", "--check"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
