"""A divergence of two samples, estimated by a network that tells one from the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .bounds import donsker_varadhan_of
from .encoders import linear, multilayer_perceptron
from .runtime import sandbox, seeded_generator

__all__ = ["kl_divergence"]

_SIZES = (256, 256)
_BATCH_SIZE, _RATE, _WEIGHT_DECAY = 512, 2e-3, 1e-3
_N_SHUFFLES = 10  # of held-out rows, to average over
_STEPS_BETWEEN_LOOKS = 50

Shuffle = Callable[[Tensor, torch.Generator], Tensor]


def kl_divergence(rows: Tensor, shuffle: Shuffle, n_steps: int, seed: int) -> float:
    """Return a lower estimate of ``KL(p || q)``, in nats; ``q`` is rows shuffled.

    A network learns the logarithm of ``p / q`` by telling rows from shuffled ones, on
    60 % of the rows.  Of all looks at the next 20 %, the best network is kept, and the
    Donsker-Varadhan bound of the last 20 % is returned (Belghazi et al.,
    arXiv 1801.04062), of which no row was seen.
    """
    with sandbox(gradients=True):
        generator = seeded_generator(seed)
        order = torch.randperm(len(rows), generator=generator)
        n_train, n_test = len(rows) * 3 // 5, len(rows) // 5
        sizes = [n_train, len(rows) - n_train - n_test, n_test]
        train, validation, test = rows[order].split(sizes)
        network = _Critic(rows.shape[1], generator)
        best, kept = -math.inf, network.state_dict()
        for _ in range(-(-n_steps // _STEPS_BETWEEN_LOOKS)):
            _learn(network, train, shuffle, generator)
            value = _bound(network, validation, shuffle, seed)
            if value > best:
                best = value
                kept = {k: v.clone() for k, v in network.state_dict().items()}
        network.load_state_dict(kept)
        return _bound(network, test, shuffle, seed)


class _Critic(nn.Module):
    """A perceptron that ends in one number, with its optimiser."""

    def __init__(self, n_in: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = multilayer_perceptron(n_in, _SIZES, generator)
        self.layers.append(linear(_SIZES[-1], 1, generator))
        self.optimizer = torch.optim.AdamW(
            self.parameters(), _RATE, weight_decay=_WEIGHT_DECAY, fused=True
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows).squeeze(1)


def _learn(
    network: _Critic, train: Tensor, shuffle: Shuffle, generator: torch.Generator
) -> None:
    """Take steps of logistic regression between rows and shuffled rows."""
    for _ in range(_STEPS_BETWEEN_LOOKS):
        index = torch.randint(len(train), (2, _BATCH_SIZE), generator=generator)
        batch, other = train[index]
        scores = network(torch.cat([batch, shuffle(other, generator)]))
        of_rows, of_shuffled = scores.split(len(batch))
        loss = softplus(-of_rows).mean() + softplus(of_shuffled).mean()
        network.optimizer.zero_grad()
        loss.backward()
        network.optimizer.step()


@torch.no_grad()
def _bound(network: _Critic, rows: Tensor, shuffle: Shuffle, seed: int) -> float:
    """Return the Donsker-Varadhan bound of these rows, with several shuffles."""
    generator = seeded_generator(seed + 1)
    shuffled = [network(shuffle(rows, generator)) for _ in range(_N_SHUFFLES)]
    scores = network(rows).double(), torch.cat(shuffled).double()
    return float(donsker_varadhan_of(*scores))
