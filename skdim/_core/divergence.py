"""Estimate by a neural network how strongly blocks of columns depend on each other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .bounds import donsker_varadhan_of
from .encoders import linear, multilayer_perceptron
from .runtime import sandbox, seeded_generator

__all__ = ["divergence_from_shuffled"]

_SIZES = (256, 256)
_LARGEST_BATCH, _RATE, _WEIGHT_DECAY = 512, 2e-3, 1e-3
_MOST_STEPS_PER_CHECK = 50
# One bound averages over at least 10 shuffles, and over this many rows.
_N_SHUFFLES, _N_SHUFFLED = 10, 4096
# Factors of the scores to choose from.  Scores of a network that has seen few rows are
# too large; the factor 0 makes it the constant one, whose bound is 0.
_FACTORS = [k / 16 for k in range(33)]


def divergence_from_shuffled(
    rows: np.ndarray, widths: list[int], n_steps: int, seed: int
) -> float:
    """Return the estimated divergence of rows from rows with independent blocks.

    A block is a group of neighbouring columns.  Let p be the density of the rows, and q
    the product of the marginal densities of the blocks.  The result estimates a lower
    bound on ``KL(p || q)``, which measures how strongly the blocks depend on each
    other.  For two blocks, ``KL(p || q)`` is their mutual information.

    A network learns ``log(p / q)`` by logistic regression on 60 % of the rows, against
    rows whose blocks are shuffled independently.  Every few steps, the Donsker-Varadhan
    bound of the network (Belghazi et al., arXiv:1801.04062) is computed on another 20 %
    of the rows, for several factors from 0 to 2 of its scores.  The network weights and
    the factor with the largest bound are kept.  The result is the bound that they give
    on the remaining 20 %.  If no network is better than a constant, the result is 0.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        At least 5 rows; columns that follow N(0, 1) are best.
    widths : list of int
        Number of columns of each block; they add up to ``n_columns``.
    n_steps : int
        Number of training steps.
    seed : int
        Determines the split of the rows, the initial network and the shuffling.

    Returns
    -------
    divergence : float
        In nats; it can be slightly negative, as the rows that it is computed on chose
        neither weights nor factor.
    """
    with sandbox(gradients=True):
        data = torch.tensor(rows, dtype=torch.float32, device="cpu")
        generator = seeded_generator(seed)
        order = torch.randperm(len(data), generator=generator, device="cpu")
        n_train, n_test = len(data) * 3 // 5, len(data) // 5
        sizes = [n_train, len(data) - n_train - n_test, n_test]
        train, validation, test = data[order].split(sizes)
        network = _Critic(data.shape[1], generator)
        best, factor, kept = 0.0, 0, network.state_dict()
        # A network of few rows is at its best after few steps.
        n_at_once = min(_MOST_STEPS_PER_CHECK, max(5, n_train // 50))
        for done in range(0, n_steps, n_at_once):
            _learn(network, train, widths, generator, min(n_at_once, n_steps - done))
            bounds = _bounds(network, validation, widths, seed)
            if bounds.max() > best:
                best, factor = float(bounds.max()), int(bounds.argmax())
                kept = {k: v.clone() for k, v in network.state_dict().items()}
        network.load_state_dict(kept)
        return float(_bounds(network, test, widths, seed)[factor])


class _Critic(nn.Module):
    """A perceptron that learns to score rows by a log density ratio.

    Takes rows of shape (n_rows, n_in) and returns scores of shape (n_rows,).  After
    training, the score of a row x is near ``log(p(x) / q(x))``.  In the numerator is
    the density p of the rows, in the denominator the density q of rows whose blocks of
    columns are shuffled independently.

    Parameters
    ----------
    n_in : int
        Number of columns of a row.
    generator : torch.Generator
        Draws the network weights.

    Attributes
    ----------
    optimizer : torch.optim.AdamW
        Trains the parameters of this network, in ``_learn``.
    """

    def __init__(self, n_in: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = multilayer_perceptron(n_in, _SIZES, generator)
        self.layers.append(linear(_SIZES[-1], 1, generator))
        self.optimizer = torch.optim.AdamW(
            self.parameters(), _RATE, weight_decay=_WEIGHT_DECAY, fused=True
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows).squeeze(1)


def _shuffled(rows: Tensor, widths: list[int], generator: torch.Generator) -> Tensor:
    """Return a copy of ``rows`` in which blocks of columns are independent.

    The order of rows is permuted at random in each block of columns, independently of
    the other blocks, so that rows follow the product of the blocks' marginal
    distributions.  ``rows`` and the result have the shape (n_rows, n_columns),
    ``widths`` gives the number of columns of each block, and ``generator`` draws the
    permutations.
    """
    blocks = rows.split(widths, dim=1)
    orders = (
        torch.randperm(len(rows), generator=generator, device="cpu") for _ in blocks
    )
    return torch.cat([b[order] for b, order in zip(blocks, orders, strict=True)], 1)


def _learn(
    network: _Critic,
    train: Tensor,
    widths: list[int],
    generator: torch.Generator,
    n_steps: int,
) -> None:
    """Train the critic for some steps to tell rows from rows with shuffled blocks.

    The loss is the cross-entropy of logistic regression, so that scores become log
    density ratios.

    Parameters
    ----------
    network : _Critic
        The critic, which is changed.
    train : Tensor of shape (n_rows, n_columns)
        Each step draws some of these rows as they are, and as many to be shuffled: 512,
        or as many as there are.
    widths : list of int
        Number of columns of each block.
    generator : torch.Generator
        Draws rows and shuffles blocks.
    n_steps : int
        Number of steps.
    """
    shape = 2, min(_LARGEST_BATCH, len(train))
    for _ in range(n_steps):
        index = torch.randint(len(train), shape, generator=generator, device="cpu")
        batch, other = train[index]
        scores = network(torch.cat([batch, _shuffled(other, widths, generator)]))
        of_rows, of_shuffled = scores.split(len(batch))
        loss = softplus(-of_rows).mean() + softplus(of_shuffled).mean()
        network.optimizer.zero_grad()
        loss.backward()
        network.optimizer.step()


@torch.no_grad()
def _bounds(network: _Critic, rows: Tensor, widths: list[int], seed: int) -> Tensor:
    """Return the Donsker-Varadhan bounds that the critic reaches on held-out rows.

    Used during training to choose the best weights of the critic and a factor, and
    after it for the final estimate.

    Parameters
    ----------
    network : _Critic
        The critic.
    rows : Tensor of shape (n_rows, n_columns)
        Rows that the critic was not trained on.
    widths : list of int
        Number of columns of each block.
    seed : int
        Determines the shuffles of the rows that the bound averages over.  With the same
        seed, bounds of different weights can be compared.

    Returns
    -------
    bounds : Tensor of shape (n_factors,)
        Estimated lower bounds, in nats, on the Kullback-Leibler divergence of the
        distribution of rows from that of rows with independent blocks, one for each of
        ``_FACTORS`` of the scores.
    """
    generator = seeded_generator(seed + 1)
    n_shuffles = max(_N_SHUFFLES, _N_SHUFFLED // len(rows))
    shuffles = (_shuffled(rows, widths, generator) for _ in range(n_shuffles))
    unpaired = torch.cat([network(shuffled) for shuffled in shuffles])
    factors = torch.tensor(_FACTORS, dtype=torch.float64, device="cpu")[:, None]
    return donsker_varadhan_of(
        factors * network(rows).double(), factors * unpaired.double()
    )
