"""The model that is trained: the network and the terms of what is maximised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ._network import build_network
from ._runtime import sandbox, seeded_generator, take
from ._source import Source, nearest
from ._spec import ModelSpec
from ._terms import Encoded, build_terms
from ._utils.rows import batches
from ._views import VIEWS

__all__ = [
    "EVALUATION",
    "NOISE",
    "InfoMax",
    "Value",
    "check_shape",
    "check_view",
    "even_batches",
    "information",
    "make_source",
    "representation",
    "restored",
    "torch_type",
    "transform",
]


# Added to the fitted seed: streams that must not be those of the weights and batches.
NOISE, EVALUATION = 1, 2


class Value(NamedTuple):
    """What a batch is worth."""

    objective: Tensor  # what is maximised
    information: Tensor  # in nats, without gradient
    gap: Tensor  # what slices lack to their capacity, in nats


class InfoMax(nn.Module):
    """A network, and terms that say what a batch is worth."""

    def __init__(self, spec: ModelSpec, generator: torch.Generator | None) -> None:
        super().__init__()
        self.spec = spec
        self.channel = spec.channel
        self.network = build_network(spec.network, generator)
        self.terms = nn.ModuleDict(build_terms(spec, self.network, generator))

    def forward(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> Value:
        """Return what the rows of these indices give, noise and views drawn afresh."""
        encoded = self._encoded(source, index, generator)
        worths = {name: term(encoded, generator) for name, term in self.terms.items()}
        objective = sum(
            self.terms[name].weight * worth.objective
            for name, worth in worths.items()
            if worth.objective is not None
        )
        known = {
            name: worth.information
            for name, worth in worths.items()
            if worth.information is not None
        }
        return Value(objective, self._reported(known), self.terms["sliced"].gap)

    def _reported(self, known: dict[str, Tensor]) -> Tensor:
        """Return the information through the channel or, without, of features."""
        if "channel" in known:
            return known["channel"]
        weights = {name: self.terms[name].weight for name in known}
        total = sum(weights.values())
        return sum(weights[name] / total * value for name, value in known.items())

    def pairs(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return codes of views and the codes that were sent, row by row."""
        encoded = self._encoded(source, index, generator)
        squash = self.channel.squash
        sent, seen = squash(encoded.sent), squash(torch.cat(encoded.seen))
        return seen, sent.repeat(len(encoded.seen), 1)

    def _encoded(
        self, source: Source, index: np.ndarray, generator: torch.Generator
    ) -> Encoded:
        """Return codes of what is sent and of each view.

        Bound to mean 0 and variance 1 are the codes that are sent; views are too where
        both sides are made alike.
        """
        views, n_rows = self.spec.views, len(index)
        if not self.spec.has_pairs:
            sides, alike = [source.take(index)], True
        else:
            alike = views.sides == "both"
            sides = [self._side(source, index, generator, altered=alike)]
            sides += [
                self._side(source, index, generator) for _ in range(views.n_views)
            ]
        inputs = torch.cat(sides)
        features = ()
        if self.spec.global_weight or self.spec.local_weight:
            features, outputs = self.network.features_and_output(inputs)
            features = features.split(n_rows)
        else:
            outputs = self.network.encode(inputs)
        codes = self.network.normalized(outputs, None if alike else n_rows)
        sent, *seen = codes.split(n_rows)
        return Encoded(
            sent,
            seen or [sent],
            codes if alike else sent,
            features[1:] or features,
        )

    def _side(
        self,
        source: Source,
        index: np.ndarray,
        generator: torch.Generator,
        altered: bool = True,
    ) -> Tensor:
        """Return scaled inputs of one side of the pairs."""
        if not altered:
            return source.take(index)
        index = source.partners(index, generator)
        inputs = source.take(index)
        views = self.spec.views
        for step in views.steps:
            if callable(step):
                shape = tuple(inputs.shape)
                inputs = step(inputs, generator)
                check_view(inputs, shape)
                continue
            view = VIEWS[step]
            other = []
            if view.source == "neighbors":
                other = [source.neighbors(index, generator)]
            strength = view.strength if views.strength is None else views.strength
            inputs = view.alter(inputs, *other, strength, generator)
        return inputs

    def weights(self) -> dict[str, np.ndarray]:
        """Return all weights as arrays that no device or torch is needed to hold.

        Contiguous, as a pickle returns them: sums of another layout round differently.
        """
        state = self.state_dict()
        return {
            name: np.array(value.detach().cpu().numpy(), order="C")
            for name, value in state.items()
        }


def check_shape(name: str, output: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError if this is no tensor of that shape."""
    got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output)
    if got != expected:
        raise ValueError(
            f"The {name} must return a tensor of shape {expected} for a batch of "
            f"{expected[0]} rows. Got {got} instead."
        )


def check_view(view: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError if a view of the user's has another shape, or NaN."""
    check_shape("'views' callable", view, expected)
    if not torch.isfinite(view).all():
        raise ValueError("The 'views' callable must return finite numbers.")


@contextmanager
def restored(
    spec: ModelSpec,
    weights: dict[str, np.ndarray],
    rows: Any,
    seed: int,
    device: torch.device,
    gradients: bool = False,
) -> Iterator[InfoMax]:
    """Build a trained model that computes in the type of ``rows``, in a sandbox.

    For gradients it computes in double precision: determinants are made of them.
    """
    with sandbox(gradients=gradients, global_seed=spec.global_seed(seed)):
        model = InfoMax(spec, generator=None)
        state = {k: torch.tensor(v, device="cpu") for k, v in weights.items()}
        model.load_state_dict(state, assign=True)
        model.to(device, torch.float64 if gradients else torch_type(rows)).eval()
        if model.network.is_own_encoder:
            model.network.encoder.float()
        yield model


def transform(
    model: InfoMax, rows: Any, device: torch.device, to: torch.device | str = "cpu"
) -> Tensor:
    """Return the standard outputs of all rows, without noise, on device ``to``."""
    shape = (len(rows), model.network.n_outputs)
    with torch.inference_mode(False):  # or the caller could not compute with it
        outputs = torch.empty(shape, dtype=torch_type(rows), device=to)
    for chunk in batches(len(rows), math.prod(rows.shape[1:])):
        outputs[chunk] = model.network(take(rows, chunk, device)).to(to)
    return outputs


def representation(model: InfoMax, rows: Any, device: torch.device) -> np.ndarray:
    """Return the layer below the code of all rows, raw."""
    chunks = batches(len(rows), math.prod(rows.shape[1:]))
    layer = model.network.representation
    return np.concatenate([layer(take(rows, c, device)).cpu().numpy() for c in chunks])


def make_source(
    model: InfoMax,
    rows: Any,
    seed: int,
    device: torch.device,
    labels: np.ndarray | None = None,
) -> Source:
    """Return rows to take batches from, with their neighbours if these are needed."""
    spec, near = model.spec, None
    in_class = labels is not None and not spec.network.is_image
    if spec.views.needs_neighbors or in_class:
        n_neighbors = spec.views.n_neighbors
        with sandbox(gradients=False):
            near = nearest(rows, model.network.input, n_neighbors, labels, seed, device)
    return Source(rows, model.network.input, device, near, labels)


def information(
    model: InfoMax,
    source: Source,
    batch_size: int,
    seed: int,
    max_batches: int | None = None,
) -> float:
    """Return the bound, averaged over batches of one size.

    The order of the rows, the views and the noise depend on ``seed`` only.
    """
    generator = seeded_generator(seed + EVALUATION, source.device)
    with sandbox(gradients=False, global_seed=model.spec.global_seed(seed)):
        batched = even_batches(len(source), batch_size, seed)[:max_batches]
        values = [
            float(model(source, index, generator).information) for index in batched
        ]
        return float(np.mean(values))


def even_batches(n_rows: int, batch_size: int, seed: int) -> np.ndarray:
    """Return indices of shape (n_batches, batch_size), shuffled.

    The last batch is filled up with rows from the beginning, because the size of a
    batch sets how much a bound can report.
    """
    batch_size = min(batch_size, n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.resize(order, (-(-n_rows // batch_size), batch_size))


def torch_type(rows: Any) -> torch.dtype:
    """Return the type to compute in: double for double precision, else single."""
    is_double = rows.dtype in (torch.float64, np.dtype("<f8"), np.dtype(">f8"))
    return torch.float64 if is_double else torch.float32
