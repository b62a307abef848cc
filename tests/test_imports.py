"""The architecture: the surface imports the core and helpers, the core only helpers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skdim

PACKAGE = Path(skdim.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
}
LEVELS = {"_utils": 0, "_core": 1}  # every other module is of the surface


def level(module):
    return LEVELS.get(module.split(".")[0], 2)


def imports(module):
    """Yield the full names of the modules that a module of the package imports."""
    package = module.split(".")[:-1] if MODULES[module].stem != "__init__" else None
    package = module.split(".")[:-1] if package is None else package
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = ["skdim", *package[: len(package) + 1 - node.level]]
            names = [a.name for a in node.names] if node.module is None else [None]
            for name in names:
                yield ".".join([*base, *filter(None, [node.module, name])])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module):
    for imported in imports(module):
        if imported.startswith("skdim."):
            assert level(imported.removeprefix("skdim.")) <= level(module), imported


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_surface_knows_scikit_learn_and_only_the_core_torch(module):
    tops = {imported.split(".")[0] for imported in imports(module)}
    assert "sklearn" not in tops or level(module) == 2
    assert "torch" not in tops or level(module) == 1


def test_modules_import_each_other_in_one_direction():
    """There are no cycles of imports; imports inside functions count too."""
    graph = {
        module: {
            name.removeprefix("skdim.")
            for name in imports(module)
            if name.removeprefix("skdim.") in MODULES
        }
        for module in MODULES
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        path.append(module)
        for imported in sorted(graph[module]):
            visit(imported)
        done.add(path.pop())

    for module in sorted(graph):
        visit(module)


def test_importing_skdim_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, skdim; repr(skdim.NoiseInjectedDIM()); "
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_private_names_of_scikit_learn_are_imported_in_one_file():
    for module, path in MODULES.items():
        private = [
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and "sklearn" in (node.module or "")
            for alias in node.names
            if "._" in node.module or alias.name.startswith("_")
        ]
        assert not private or module == "_sklearn", (module, private)
