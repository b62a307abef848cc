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


def lejepa(a, b, weight=0.05, n_slices=1024):
    """Return the LeJEPA loss (Balestriero and LeCun, arXiv 2511.08544).

    ``weight`` is the weight of SIGReg, which compares ``n_slices`` random projections
    with N(0, 1) by their characteristic functions at 17 knots from 0 to 3.  The squared
    distance of the views from their mean has ``1 - weight``.
    """
    return _jepa(a, b, weight, sigreg, n_slices)


def visreg(a, b, weight=0.9, n_slices=1024):
    """Return the VISReg loss (Wu, Balestriero and Levine, arXiv 2606.02572).

    ``weight`` is the weight of centre, scale and shape: squared means, squared
    deviations of the standard deviations from 1, and the squared distance of the sorted
    projections of standardised codes to quantiles of N(0, 1).  No gradient flows
    through the scale in the shape.
    """
    return _jepa(a, b, weight, _centre_scale_shape, n_slices)


def kerjepa(a, b, weight=0.5):
    """Return the KerJEPA loss of an inverse multiquadric kernel (arXiv 2512.19605).

    ``weight`` is the weight of the squared kernel Stein discrepancy to N(0, I).
    """
    return _jepa(a, b, weight, stein_discrepancy)


def _jepa(a, b, weight, regularizer, *options):
    """Weigh a regulariser of each view against the distance of views to their mean."""
    center = (a + b) / 2
    invariance = ((a - center).square().mean() + (b - center).square().mean()) / 2
    regularity = (regularizer(a, *options) + regularizer(b, *options)) / 2
    return weight * regularity + (1 - weight) * invariance


def sigreg(z, n_slices=1024):
    """Return the mean Epps-Pulley statistic of random projections of codes.

    Knots are evenly spaced, so that the cosine and the sine at each knot follow from
    those at the two knots before it: ``cos((k + 1) t) = 2 cos(t) cos(k t) - cos((k - 1)
    t)``.
    """
    n_knots, top = 17, 3.0
    step = top / (n_knots - 1)
    angle = z @ _directions(z, n_slices) * step
    twice = 2 * angle.cos()
    cosines, sines = [torch.ones_like(angle), twice / 2], [0 * angle, angle.sin()]
    total = 0
    for knot in range(1, n_knots):
        gauss = math.exp(-((knot * step) ** 2) / 2)
        error = (cosines[1].mean(0) - gauss).square() + sines[1].mean(0).square()
        width = step if knot == n_knots - 1 else 2 * step
        total = total + width * gauss * error
        cosines = [cosines[1], twice * cosines[1] - cosines[0]]
        sines = [sines[1], twice * sines[1] - sines[0]]
    return len(z) * total.mean()


def _centre_scale_shape(z, n_slices):
    centered = z - z.mean(0)
    scale = centered.square().mean(0).sqrt()
    shape = sliced_wasserstein(centered / scale.detach().clamp_min(1e-6), n_slices)
    return z.mean(0).square().mean() + (scale - 1).square().mean() + shape


def stein_discrepancy(z):
    """Return the squared kernel Stein discrepancy of codes to N(0, I), without bias.

    The kernel is ``(1 + r^2 / h)^(-1/2)``, and ``h`` twice the number of components:
    the mean squared distance ``r^2`` of draws from N(0, I).
    """
    n, d = z.shape
    inner = z @ z.T
    squares = inner.diagonal()
    r2 = (squares[:, None] + squares - 2 * inner).clamp_min(0)
    h = 2 * d
    base = 1 + r2 / h
    # k s(x) s(y) + s(x) dk/dy + s(y) dk/dx + trace d2k/dx dy, with the score s(x) = -x.
    stein = inner * base**-0.5 + (d - r2) / h * base**-1.5 - 3 * r2 / h**2 * base**-2.5
    return (stein.sum() - stein.diagonal().sum()) / (n * (n - 1))


class Projected(nn.Module):
    """A loss on a projection of codes by a perceptron, as in LeJEPA and VISReg.

    The codes themselves are the features.  The projector has two hidden layers of 512
    units with batch norm, and 64 outputs.
    """

    def __init__(self, n_components, loss):
        super().__init__()
        self.projector, n_in = nn.Sequential(), n_components
        for _ in range(2):
            self.projector.append(nn.Linear(n_in, 512, bias=False))
            self.projector.append(nn.BatchNorm1d(512)).append(nn.ReLU())
            n_in = 512
        self.projector.append(nn.Linear(n_in, 64))
        self.loss = loss

    def forward(self, a, b):
        """Return the loss of the projected codes of two views."""
        return self.loss(*self.projector(torch.cat([a, b])).chunk(2))


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
