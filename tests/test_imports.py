"""The architecture: surface -> core, and never back."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skdim

PACKAGE = Path(skdim.__file__).parent
# Lower layers first; a module may import only from layers below its own.
LAYERS = [
    {"_utils", "_utils.distributions", "_utils.process", "_utils.progress"},
    {"_utils.rows", "_version"},
    {"_core"},
    {
        *("_core.channels", "_core.bounds", "_encoders", "_normalizer", "_runtime"),
        *("_slices", "_views"),
    },
    {"_critics", "_core.divergence", "_network", "_source"},
    {"_spec"},
    {"_terms"},
    {"_model"},
    {"_config"},
    {"_density", "_descent", "_statistics"},
    {"_trainer"},
    {"_stream"},
    {"_callbacks", "_persistence", "_sklearn"},
    {"_validation"},
    {"_base"},
    {"_training"},
    {"_parameters", "metrics.capacity", "metrics.samples"},
    {"_deep_infomax", "_noise_injected_dim"},
    {"_novelty"},
    {"_outlier_detector"},
    {"metrics.dependence", "metrics.distances"},
    {"metrics.normality", "metrics.summaries"},
    {"metrics.scorers"},
    {"_display", "metrics"},
    {"__init__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
CORE = {name for layer in LAYERS[:12] for name in layer}


def path_of(module):
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports(module):
    """Yield (module of the package or None, top-level name) of each import."""
    path = path_of(module)
    here = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            room = [*here[: len(here) - node.level + 1]]
            room += node.module.split(".") if node.module else []
            names = [".".join([*room, alias.name]) for alias in node.names]
            modules = {n if n in LEVEL else ".".join(room) for n in names}
            yield from ((name, "skdim") for name in modules)
        elif isinstance(node, ast.ImportFrom):
            yield None, node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from ((None, alias.name.split(".")[0]) for alias in node.names)


def test_every_module_has_a_layer():
    assert {name_of(path) for path in PACKAGE.rglob("*.py")} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_imports_point_down(module):
    for imported, _ in imports(module):
        if imported is not None:
            assert LEVEL[imported] < LEVEL[module]


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_does_not_know_scikit_learn(module):
    assert "sklearn" not in {top for _, top in imports(module)}


def test_importing_skdim_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, skdim; skdim.NoiseInjectedDIM(); "
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


def test_private_names_of_scikit_learn_are_imported_in_one_file():
    for module in LEVEL:
        tree = ast.parse(path_of(module).read_text())
        private = [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and "sklearn" in (node.module or "")
            for alias in node.names
            if "._" in node.module or alias.name.startswith("_")
        ]
        assert not private or module == "_sklearn", (module, private)
