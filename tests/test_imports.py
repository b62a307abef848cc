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
    {"_capacity", "_laws", "_process", "_progress", "_rows", "_version"},
    {
        *("_channels", "_objectives", "_encoders", "_normalizer", "_runtime"),
        *("_slices", "_views"),
    },
    {"_critics", "_divergence", "_network", "_source"},
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
    {"_parameters", "_samples"},
    {"_deep_infomax", "_noise_injected_dim"},
    {"_novelty"},
    {"_outlier_detector"},
    {"_dependence", "_distances", "_normality", "_summaries"},
    {"_scorers"},
    {"_display", "metrics"},
    {"__init__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
CORE = {name for layer in LAYERS[:10] for name in layer}


def imports(module):
    """Yield (module of the package or None, top-level name) of each import."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [a.name for a in node.names]
            yield from ((name, "skdim") for name in names)
        elif isinstance(node, ast.ImportFrom):
            yield None, node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from ((None, alias.name.split(".")[0]) for alias in node.names)


def test_every_module_has_a_layer():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(LEVEL)


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
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        private = [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and "sklearn" in (node.module or "")
            for alias in node.names
            if "._" in node.module or alias.name.startswith("_")
        ]
        assert not private or module == "_sklearn", (module, private)
