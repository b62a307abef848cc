"""Older versions of scikit-learn; the newest one is what `make test` installs."""

import nox

nox.options.default_venv_backend = "venv"

# Of all that `make test` runs, what depends on the version of scikit-learn.
TESTS = ["contract", "persistence", "callbacks", "progress", "large_inputs"]
TESTS += ["training_control"]


@nox.session
@nox.parametrize("version", ["1.6.1", "1.7.2", "1.8.0"])
def sklearn(session: nox.Session, version: str) -> None:
    """Run the tests of the contract on this version."""
    wanted = f"scikit-learn=={version}"
    session.install("--constraint", "constraints.txt", wanted, "--editable", ".[test]")
    files = [f"tests/test_{name}.py" for name in TESTS]
    command = ["pytest", "--numprocesses", "auto", *files]
    session.run(*command, env={"SCIPY_ARRAY_API": "1"})
