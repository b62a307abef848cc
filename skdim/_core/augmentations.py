"""Augmentations: functions that make a view, a changed copy, of each row of a batch.

Each is called as ``(inputs, strength, generator)`` with scaled inputs, or as
``(inputs, near, strength, generator)`` if it needs near rows, and returns a tensor of
the same shape.  Tables have the shape (n_rows, n_features), images (n_rows, channels,
height, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["AUGMENTATIONS", "Augmentation"]


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from U[0, 1) in the type and on the device of ``like``."""
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return draws.uniform_(generator=generator)


def _per_image(x: Tensor, generator: torch.Generator, n: int = 1) -> Tensor:
    """Draw n numbers in [-1, 1) for each image, in the shape (n, n_images, 1, 1, 1)."""
    return 2 * uniform((n, len(x), 1, 1, 1), x, generator) - 1


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Draw a mask of shape (n_images, 1, 1, 1) that is True with this probability."""
    return uniform((len(x), 1, 1, 1), x, generator) < probability


# Tables


def jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of standard deviation ``strength``."""
    noise = torch.empty_like(x).normal_(std=strength, generator=generator)
    return x + noise


def swap(
    x: Tensor, near: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Replace each cell, with probability ``strength``, by that of the near row."""
    return torch.where(uniform(x.shape, x, generator) < strength, near, x)


def marginal(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Replace each cell, with probability ``strength``, by one of its column's.

    The corruption of SCARF, arXiv 2106.15147.
    """
    rows = torch.randint(len(x), x.shape, generator=generator, device=x.device)
    return swap(x, x.gather(0, rows), strength, generator)


# Images


def shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift images by whole pixels, up to ``strength`` times their size each way.

    Pixels at the edge are repeated.
    """
    n, _, height, width = x.shape
    rows, columns = (
        (
            _offset(size, strength, n, x, generator)
            + torch.arange(size, device=x.device)
        ).clamp(0, size - 1)
        for size in (height, width)
    )
    image = torch.arange(n, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None]].permute(
        0, 3, 1, 2
    )


def _offset(
    size: int, strength: float, n: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    most = round(strength * size)
    return torch.randint(
        -most, most + 1, (n, 1), generator=generator, device=like.device
    )


def affine(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift images.

    At ``strength`` 1: by up to 60 degrees, a factor of exp(0.4), and 40 %.
    """
    angle, stretch, shear, right, down = _per_image(x, generator, 5) * strength
    angle = angle * (math.pi / 3)
    zoom = (0.4 * stretch).exp()
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # Coordinates go from -1 to 1 in height and width, whatever these are.
    tall = x.shape[2] / x.shape[3]
    top = torch.cat([cos, (0.4 * shear - sin) * tall, 0.4 * right], dim=3)
    bottom = torch.cat([sin / tall, cos, 0.4 * down], dim=3)
    return _resample(x, torch.cat([top, bottom], dim=2)[:, 0])


def crop(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Cut out a box of at least ``1 - strength`` of the area and enlarge it."""
    area = 1 - strength * uniform((len(x), 1, 1, 1), x, generator)
    stretch, right, down = _per_image(x, generator, 3)
    # Aspect ratios of up to 4/3, no side longer than the image.
    ratio = (0.5 * math.log(4 / 3) * strength * stretch).exp()
    wide, high = (
        side.clamp(max=1) for side in (area.sqrt() * ratio, area.sqrt() / ratio)
    )
    zero = torch.zeros_like(wide)
    top = torch.cat([wide, zero, right * (1 - wide)], dim=3)
    bottom = torch.cat([zero, high, down * (1 - high)], dim=3)
    return _resample(x, torch.cat([top, bottom], dim=2)[:, 0])


def _resample(x: Tensor, maps: Tensor) -> Tensor:
    """Resample each image by its affine map of shape (2, 3); edge pixels repeat."""
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def flip(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Mirror images left to right with probability ``strength``."""
    return torch.where(_chosen(x, strength, generator), x.flip(3), x)


def color(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and colour balance at random."""
    brightness, contrast, saturation = _per_image(x, generator, 3) * strength
    balance = 2 * uniform((len(x), x.shape[1], 1, 1), x, generator) - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + contrast) + brightness + 0.5 * strength * balance


def blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blend each image with its 3x3 box blur, whose share is up to ``strength``."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    share = strength * uniform((len(x), 1, 1, 1), x, generator)
    return x + share * (F.avg_pool2d(padded, 3, stride=1) - x)


def erase(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Set a random box to 0; its sides are up to ``strength`` times the image's."""
    inside = torch.ones(1, dtype=torch.bool, device=x.device)
    for axis in (2, 3):
        size = x.shape[axis]
        side = strength * size * uniform((len(x), 1), x, generator)
        start = (size - side) * uniform((len(x), 1), x, generator)
        pixel = torch.arange(size, device=x.device) + 0.5
        hit = (pixel >= start) & (pixel < start + side)
        inside = inside & hit.reshape(
            len(x), *(size if a == axis else 1 for a in (1, 2, 3))
        )
    return x.masked_fill(inside, 0)


@dataclass(frozen=True)
class Augmentation:
    """An augmentation and what it takes.

    Attributes
    ----------
    augment : callable
        The function.
    strength : float
        Default strength; 0 changes nothing.
    for_images : bool
        Whether it takes images, or tables.
    needs_neighbors : bool
        Whether it takes a near row of each row.
    largest_strength : float
    """

    augment: Callable[..., Tensor]
    strength: float
    for_images: bool = False
    needs_neighbors: bool = False
    largest_strength: float = 1.0


AUGMENTATIONS: dict[str, Augmentation] = {
    "jitter": Augmentation(jitter, 0.3, largest_strength=math.inf),
    "marginal": Augmentation(marginal, 0.4),
    "neighbors": Augmentation(swap, 0.5, needs_neighbors=True),
    "crop": Augmentation(crop, 0.75, for_images=True),
    "shift": Augmentation(shift, 0.15, for_images=True),
    "affine": Augmentation(affine, 0.3, for_images=True, largest_strength=math.inf),
    "flip": Augmentation(flip, 0.5, for_images=True),
    "color": Augmentation(color, 0.4, for_images=True, largest_strength=math.inf),
    "blur": Augmentation(blur, 0.5, for_images=True),
    "erase": Augmentation(erase, 0.5, for_images=True),
}
