import math

import pytest
import torch

from skdim._core.sliced import radial_kl, random_directions, sliced_kl

NOISE = 0.6


def sample(n, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)


def directions(d, n=64, seed=1):
    like = torch.empty(0, dtype=torch.float64)
    return random_directions(d, n, like, torch.Generator().manual_seed(seed))


def dense_kl(codes, directions):
    """Return the sliced divergence from exact mixture densities on a fine grid."""
    points = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    step, total = 0.01, 0.0
    target = torch.distributions.Normal(0, math.sqrt(1 + NOISE**2)).log_prob(points)
    for direction in directions.T:
        centres = codes @ direction
        log_density = torch.distributions.Normal(centres[:, None], NOISE).log_prob(
            points
        )
        log_mixture = log_density.logsumexp(0) - math.log(len(codes))
        total += (log_mixture.exp() * (log_mixture - target)).sum() * step
    return float(total) / directions.shape[1]


def test_directions_are_unit_vectors_from_the_generator():
    one, two = directions(5), directions(5)
    torch.testing.assert_close(one.norm(dim=0), torch.ones(64, dtype=torch.float64))
    assert torch.equal(one, two)


@pytest.mark.parametrize("codes", [sample(300, 3), sample(300, 3).exp() - 1.6])
def test_divergence_is_that_of_the_dense_mixture(codes):
    codes = codes.clamp(-2.5, 2.5)  # slices stay on the grid
    expected = dense_kl(codes, directions(3, 8))
    divergence = sliced_kl(codes, directions(3, 8)).item()
    assert divergence == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_divergence_of_normal_codes_is_in_closed_form(scale):
    # KL between N(0, scale^2 + s^2) and N(0, 1 + s^2).
    ratio = (scale**2 + NOISE**2) / (1 + NOISE**2)
    expected = 0.5 * (ratio - 1 - math.log(ratio))
    divergence = sliced_kl(scale * sample(100_000, 2), directions(2)).item()
    assert divergence == pytest.approx(expected, abs=1e-3)


def test_divergence_sees_what_components_alone_do_not():
    # Normal components that are dependent: the sign of one is tied to the other.
    z = sample(20_000, 2)
    tied = torch.stack([z[:, 0], z[:, 1].abs() * z[:, 0].sign()], dim=1)
    assert sliced_kl(tied, torch.eye(2, dtype=torch.float64)) < 2e-3
    assert sliced_kl(tied, directions(2)) > 0.02 > 5 * sliced_kl(z, directions(2))


def test_gradient_matches_finite_differences():
    codes = sample(40, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: sliced_kl(c, directions(2, 4)), codes)


def test_descending_the_divergence_makes_codes_normal():
    z = sample(2000, 2)
    codes = 0.3 * z + z.sign() @ torch.tensor([[1.0, 0.8], [0, 0.6]]).double()
    codes.requires_grad_()  # clusters at the corners of a rhombus
    assert sliced_kl(codes, directions(2)) > 0.1
    optimizer = torch.optim.Adam([codes], 0.02)
    for seed in range(300):
        optimizer.zero_grad()
        sliced_kl(codes, directions(2, 16, seed)).backward()
        optimizer.step()
    correlation = torch.corrcoef(codes.T)[0, 1]
    assert abs(correlation) < 0.15
    assert sliced_kl(codes, directions(2)) < 2e-3


def test_codes_far_outside_and_not_a_number_are_told():
    far = torch.full((10, 2), 1e6, dtype=torch.float64)
    assert 1 < sliced_kl(far, directions(2)) < 100
    assert torch.isnan(sliced_kl(torch.full_like(far, torch.nan), directions(2)))


def test_norms_show_what_slices_hide():
    # All components of a row share one random scale: slices are still nearly normal.
    z = sample(5000, 64)
    scale = 1 + 0.3 * torch.sign(sample(5000, 1, seed=3))
    scaled = scale * z / (1 + 0.3**2) ** 0.5
    assert radial_kl(z) < 0.01
    assert radial_kl(scaled) > 0.5 > 10 * sliced_kl(scaled, directions(64))


@pytest.mark.parametrize("d", [1, 2, 16])
def test_radial_kl_is_small_for_the_distribution_and_differentiable(d):
    z = sample(4000, d).requires_grad_()
    divergence = radial_kl(z)
    divergence.backward()
    assert divergence < 0.05 and torch.isfinite(z.grad).all()
    assert radial_kl(1.3 * z) > divergence + 0.02
