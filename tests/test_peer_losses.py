"""Losses of the benchmarks' peers, compared with the library lightly 1.6.0."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks").exists():
    pytest.skip("benchmarks are not installed", allow_module_level=True)


@pytest.fixture
def losses(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _losses

    return _losses


@pytest.fixture
def views():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(64, 16, generator=g)
    return a, a + 0.5 * torch.randn(64, 16, generator=g)


@pytest.mark.parametrize(
    ("name", "weight", "expected"),
    [
        ("simclr", 0.1, 0.265942),  # NTXentLoss(temperature=0.1)
        ("simclr", 0.5, 3.231996),
        ("vicreg", 5, 2.542287),  # VICRegLoss(lambda_param=5, mu_param=25, nu_param=1)
        ("vicreg", 25, 7.644772),
        ("barlow_twins", 5e-3, 0.220097),  # BarlowTwinsLoss(lambda_param=5e-3)
        ("barlow_twins", 0.08, 0.543945),
        ("lejepa", 0.0, 0.063781),  # lejepa_invariance_loss
    ],
)
def test_loss_is_that_of_the_library(losses, views, name, weight, expected):
    assert getattr(losses, name)(*views, weight).item() == pytest.approx(expected, 1e-5)


def test_sigreg_is_that_of_the_library(losses, views):
    # SIGReg(num_vectors=20000) of both views, two draws: 1.4595 and 1.4846.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value = losses.lejepa(*views, 1.0, n_slices=20_000)
    assert value.item() == pytest.approx(1.472, rel=0.02)
