"""Steps of gradient descent that survive a divergence."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ._config import FitConfig, divergence
from ._model import NOISE, InfoMax
from ._runtime import seeded_generator
from ._source import Source

__all__ = ["Descent"]

_STEPS_BETWEEN_COPIES = 50  # of the weights, to fall back to
_FALL_BACK = 0.1  # of the learning rate


class Descent:
    """A model in training, with its optimiser and its streams of random numbers.

    Where the objective is no number any more, or a weight, the last weights that were
    known to be finite come back and training goes on at a tenth of the learning rate;
    where that happens again, it raises.

    Parameters
    ----------
    model : InfoMax
    config : FitConfig
    source : Source
    generator : torch.Generator
        For the order of the rows.
    n_steps : int or None
        That the schedule of the learning rate is made for; None keeps it constant.
    """

    def __init__(
        self,
        model: InfoMax,
        config: FitConfig,
        source: Source,
        generator: torch.Generator,
        n_steps: int | None,
    ) -> None:
        self.model, self.config, self.source = model, config, source
        self.generator = generator
        self.noise = seeded_generator(config.seed + NOISE, config.device)
        self.n_steps, self.n_done, self.fell_back = n_steps, 0, False
        self._safe = _copy(model)
        self._begin(config.learning_rate)

    def _begin(self, learning_rate: float) -> None:
        """Start an optimiser, and its schedule over the steps that are left."""
        groups = [{"params": list(self.model.network.parameters())}]
        for term in self.model.terms.values():
            if parameters := term.learned():
                rate = learning_rate * term.learning_rate_factor
                groups.append({"params": parameters, "weight_decay": 0.0, "lr": rate})
        self.optimizer = torch.optim.AdamW(
            groups, learning_rate, weight_decay=self.config.weight_decay, fused=True
        )
        self._scheduler = None
        if self.n_steps is not None:
            self._scheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer,
                [group["lr"] for group in self.optimizer.param_groups],
                total_steps=self.n_steps - self.n_done + 1,
                pct_start=0.15,
            )

    def epoch(self) -> tuple[float, float]:
        """Go through all rows once; return information and gap, means over batches."""
        self.model.train()
        batch_size = self.config.batch_size
        order = torch.randperm(
            len(self.source), generator=self.generator, device="cpu"
        ).numpy()
        n_batches = len(order) // batch_size
        batched = order[: n_batches * batch_size].reshape(n_batches, -1)
        terms = [self._step(index) for index in batched]
        self.keep()
        return tuple(np.mean(terms, axis=0).tolist())

    def keep(self) -> None:
        """Copy the weights if they are finite; fall back if not."""
        if _is_finite(self.model):
            self._safe = _copy(self.model)
        else:
            self.fall_back()

    def rescue(self) -> None:
        """Return to the last finite weights if these are not."""
        if not _is_finite(self.model):
            self.model.load_state_dict(self._safe)

    def _step(self, index: np.ndarray) -> list[float]:
        if self.n_done % _STEPS_BETWEEN_COPIES == 0:
            self.keep()
        term = self._attempt(index)
        if term is None:
            self.fall_back()
            term = self._attempt(index)
        if term is None:
            raise divergence(math.nan)
        self.n_done += 1
        return term

    def _attempt(self, index: np.ndarray) -> list[float] | None:
        """Take a step; return what to note of it, or None if it is no number."""
        try:
            term = self.model(self.source, index, self.noise)
        except torch.linalg.LinAlgError:  # whitening met NaN
            return None
        # As numbers: small tensors that stay would scatter the memory of large ones.
        noted = torch.stack([term.information, term.gap]).tolist()
        if not math.isfinite(float(term.objective.detach()) + sum(noted)):
            return None
        self.optimizer.zero_grad()
        term.objective.neg().backward()
        self.optimizer.step()
        if self._scheduler is not None:
            self._scheduler.step()
        return noted

    def fall_back(self) -> None:
        """Return to the last finite weights at a lower rate; raise the second time."""
        if self.fell_back:
            raise divergence(math.nan)
        self.fell_back = True
        self.model.load_state_dict(self._safe)
        for term in self.model.terms.values():
            term.forget()
        self._begin(_FALL_BACK * self.config.learning_rate)


def _copy(model: InfoMax) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def _is_finite(model: InfoMax) -> bool:
    total = sum(p.sum(dtype=torch.float64) for p in model.parameters())
    return math.isfinite(float(total))
