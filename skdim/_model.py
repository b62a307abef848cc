"""The model that is trained: network, channel, critic and objective together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ._channels import CHANNELS, Channel
from ._critics import CRITICS
from ._network import NetworkSpec, build_network
from ._objectives import OBJECTIVES
from ._runtime import batches, sandbox, seeded_generator, take

__all__ = [
    "EVALUATION",
    "NOISE",
    "InfoMax",
    "ModelSpec",
    "View",
    "information",
    "restored",
    "torch_type",
    "transform",
]


# Added to the fitted seed: streams that must not be those of the weights and batches.
NOISE, EVALUATION = 1, 2

View = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build the model again, its weights aside.

    ``output_distribution``, ``critic`` and ``objective`` are keys of the tables.
    """

    network: NetworkSpec
    output_distribution: str
    noise_scale: float
    critic: str
    objective: str
    view: View | None = None

    @property
    def channel(self) -> Channel:
        """The channel of the output distribution, at the chosen noise."""
        return CHANNELS[self.output_distribution](self.noise_scale)

    def global_seed(self, seed: int) -> int | None:
        """Return ``seed`` if code of the user's runs inside, which may need it."""
        own = self.view is not None or self.network.is_own_encoder
        return seed if own else None


class InfoMax(nn.Module):
    """Bound on ``I(f(x'); f(x) + z)``, the objective of arXiv 2410.06993, section 3."""

    def __init__(self, spec: ModelSpec, generator: torch.Generator | None) -> None:
        super().__init__()
        self.spec = spec
        self.channel = spec.channel
        self.network = build_network(spec.network, self.channel, generator)
        n_components = spec.network.n_components
        self.critic = CRITICS[spec.critic](
            self.channel, n_components, spec.view is not None, generator
        )
        self.objective = OBJECTIVES[spec.objective]

    def forward(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the bound on a batch of raw rows, noise and views drawn afresh."""
        inputs = self.network.input(rows)
        if self.spec.view is None:
            sent = code = self.network.code(inputs)
        else:
            view = self.spec.view(inputs.clone(), generator)
            both = torch.cat([inputs, view])
            sent, code = self.network.code(both, n_sent=len(inputs)).chunk(2)
        received = sent + self.channel.noise(sent, generator)
        return self.objective.bound(self.critic(code, received))

    def weights(self) -> dict[str, np.ndarray]:
        """Return all weights as arrays that no device or torch is needed to hold."""
        state = self.state_dict()
        return {name: value.detach().cpu().numpy() for name, value in state.items()}


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    rows: np.ndarray,
    seed: int,
    device: torch.device,
) -> Iterator[InfoMax]:
    """Build a trained model that computes in the type of ``rows``, in a sandbox."""
    with sandbox(gradients=False, global_seed=spec.global_seed(seed)):
        model = InfoMax(spec, generator=None)
        state = {k: torch.tensor(v, device="cpu") for k, v in weights.items()}
        model.load_state_dict(state, assign=True)
        model.to(device, torch_type(rows)).eval()
        if model.network.is_own_encoder:
            model.network.encoder.float()
        yield model


def transform(model: InfoMax, rows: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the codes of all rows, without noise."""
    n_components = model.spec.network.n_components
    codes = torch.empty((len(rows), n_components), dtype=torch_type(rows), device="cpu")
    for chunk in batches(*rows.shape):
        codes[chunk] = model.network(take(rows, chunk, device)).cpu()
    return codes.numpy()


def information(
    model: InfoMax,
    rows: np.ndarray,
    batch_size: int,
    seed: int,
    device: torch.device,
    max_batches: int | None = None,
) -> float:
    """Return the bound, averaged over batches of one size.

    The order of the rows and the noise depend on ``seed`` only.  The last batch is
    filled up with rows from the beginning, because the size of a batch sets how much
    the bound can report.
    """
    batch_size = min(batch_size, len(rows))
    n_batches = -(-len(rows) // batch_size)
    order = np.random.default_rng(seed).permutation(len(rows))
    batched = np.resize(order, (n_batches, batch_size))[:max_batches]
    generator = seeded_generator(seed + EVALUATION, device)
    with sandbox(gradients=False, global_seed=model.spec.global_seed(seed)):
        values = [model(take(rows, index, device), generator) for index in batched]
        return float(torch.stack(values).mean())


def torch_type(rows: np.ndarray) -> torch.dtype:
    """Return the type to compute in: that of the rows, single for integers."""
    return torch.float64 if rows.dtype == np.float64 else torch.float32
