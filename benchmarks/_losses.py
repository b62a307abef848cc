"""Losses of peers on the codes of two views, by the formulas of their papers.

Tests compare them with the library lightly where it has them.  Each loss takes two
batches of codes, tensors of shape (n_rows, n_components), and returns a scalar tensor
to minimise.  Row i of both batches is a view of the same input.  Losses with trained
parameters are modules.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from skdim._core.bounds import infonce
from skdim._core.critics import CRITICS


def simclr(a, b, temperature=0.5):
    """Return the NT-Xent loss of SimCLR (Chen et al., arXiv 2002.05709)."""
    n = len(a)
    z = F.normalize(torch.cat([a, b]), dim=1)
    scores = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(scores, torch.arange(2 * n, device=z.device).roll(n))


def vicreg(a, b, invariance=25):
    """Return the VICReg loss (Bardes et al., arXiv 2105.04906).

    ``invariance`` is the weight of the squared distance between the views.  The weights
    of variance (12.5 for each view) and covariance (1) are fixed.
    """
    loss = invariance * F.mse_loss(a, b)
    for z in (a, b):
        loss = loss + 12.5 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
        covariance = z.T.cov()
        away = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + away / z.shape[1]
    return loss


def barlow_twins(a, b, weight=5e-3):
    """Return the Barlow Twins loss (Zbontar et al., arXiv 2103.03230).

    ``weight`` is the weight of the entries off the diagonal of the cross-correlation.
    """
    a, b = _standardized(a), _standardized(b)
    correlation = a.T @ b / len(a)
    of_same = correlation.diagonal()
    away = correlation.square().sum() - of_same.square().sum()
    return (1 - of_same).square().sum() + weight * away


def lejepa(a, b, weight=0.05, n_slices=64):
    """Return the LeJEPA loss (Balestriero and LeCun, arXiv 2511.08544).

    ``weight`` is the weight of SIGReg, which compares ``n_slices`` random projections
    with N(0, 1).  The squared distance of the views from their mean has ``1 - weight``.
    """
    knots = torch.linspace(0, 3, 17, device=a.device)
    gauss = (-knots.square() / 2).exp()
    weights = torch.full_like(knots, 2 * 3 / 16) * gauss
    weights[[0, -1]] /= 2
    center = (a + b) / 2
    invariance = ((a - center).square().mean() + (b - center).square().mean()) / 2
    regularizer = 0
    slices = _directions(a, n_slices)
    for z in (a, b):
        angle = (z @ slices)[..., None] * knots
        error = (angle.cos().mean(0) - gauss).square() + angle.sin().mean(0).square()
        regularizer = regularizer + len(z) * (error @ weights).mean() / 2
    return weight * regularizer + (1 - weight) * invariance


def _standardized(z):
    return F.batch_norm(z, None, None, training=True)


def _directions(z, n_slices):
    return F.normalize(torch.randn(z.shape[1], n_slices, device=z.device), dim=0)


class DeepInfoMax(nn.Module):
    """Minus InfoNCE between two views with a separable critic, plus a penalty.

    The penalty is ``weight`` times ``match``, a function of codes that returns their
    distance to N(0, I).  If ``match`` is None, this is plain Deep InfoMax (Hjelm et
    al., arXiv 1808.06670) between codes.  Codes are first standardised in each batch.
    """

    def __init__(self, n_components, match=None, weight=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(torch.initial_seed())
        self.critic = CRITICS["separable"](n_components, n_components, generator)
        self.match, self.weight = match, weight

    def forward(self, a, b):
        """Return the loss of the codes of two views."""
        a, b = _standardized(a), _standardized(b)
        loss = -infonce(self.critic(a, b))
        if self.match is not None:
            loss = loss + self.weight * (self.match(a) + self.match(b)) / 2
        return loss


def sliced_wasserstein(z, n_slices=64):
    """Return the squared sliced 2-Wasserstein distance of codes to N(0, I).

    See Kolouri et al., arXiv 1804.01947.
    """
    ranks = (torch.arange(len(z), device=z.device) + 0.5) / len(z)
    slices = (z @ _directions(z, n_slices)).sort(0).values
    return (slices - torch.special.ndtri(ranks)[:, None]).square().mean()


def discrepancy(z):
    """Return the squared MMD of codes to a sample of N(0, I), as in WAE.

    See Tolstikhin et al., arXiv 1711.01558.
    """
    sample = torch.randn_like(z)
    n, d = z.shape

    def mean_kernel(a, b, is_same):
        squares = torch.cdist(a, b).square()
        scales = [2 * d * scale for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
        kernel = sum(scale / (scale + squares) for scale in scales)
        if not is_same:
            return kernel.mean()
        return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))

    return (
        mean_kernel(z, z, True)
        + mean_kernel(sample, sample, True)
        - 2 * mean_kernel(z, sample, False)
    )


class _Reverse(torch.autograd.Function):
    """Identity that reverses the sign of the gradient (Ganin, arXiv 1409.7495)."""

    @staticmethod
    def forward(ctx, z):
        return z.view_as(z)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Adversary(nn.Module):
    """A discriminator between codes and draws of N(0, I), trained by the same step.

    The encoder learns to deceive it, because the gradient to the codes is reversed.
    """

    def __init__(self, n_components):
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(n_components, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 1),
        )

    def forward(self, z):
        """Return the discriminator's loss; its gradient to ``z`` is reversed."""
        of_codes = self.score(_Reverse.apply(z))
        of_prior = self.score(torch.randn_like(z))
        return F.softplus(of_codes).mean() + F.softplus(-of_prior).mean()
