"""Views: altered copies of scaled inputs, drawn from the estimator's own generator.

A view is a function ``(inputs, strength, generator) -> inputs``; those of tables whose
cells come from other rows also take these other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["VIEWS", "View"]


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from U[0, 1) in the type and on the device of ``like``."""
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return draws.uniform_(generator=generator)


def _per_image(x: Tensor, generator: torch.Generator, n: int = 1) -> Tensor:
    """Draw ``n`` numbers in [-1, 1) for each image, in a shape that broadcasts."""
    return 2 * uniform((n, len(x), 1, 1, 1), x, generator) - 1


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Choose each image with this probability; a mask that broadcasts."""
    return uniform((len(x), 1, 1, 1), x, generator) < probability


# Tables


def jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of standard deviation ``strength``."""
    noise = torch.empty_like(x).normal_(std=strength, generator=generator)
    return x + noise


def swap(
    x: Tensor, other: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Replace each cell, with probability ``strength``, by that of the other row."""
    return torch.where(uniform(x.shape, x, generator) < strength, other, x)


def marginal(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Replace cells by draws from their column (SCARF, arXiv 2106.15147)."""
    rows = torch.randint(len(x), x.shape, generator=generator, device=x.device)
    return swap(x, x.gather(0, rows), strength, generator)


# Images


def shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Move by whole pixels, up to the share ``strength`` of the size; edges repeat."""
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
    """Rotate, scale, shear and move; ``strength`` 1 is 60 degrees and 40 %."""
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
    """Cut out a box of at least the area ``1 - strength`` and enlarge it."""
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
    """Read each image through its affine map, shape (n, 2, 3); edges repeat."""
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def flip(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Mirror left and right with probability ``strength``."""
    return torch.where(_chosen(x, strength, generator), x.flip(3), x)


def color(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and the balance of channels."""
    brightness, contrast, saturation = _per_image(x, generator, 3) * strength
    balance = 2 * uniform((len(x), x.shape[1], 1, 1), x, generator) - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + contrast) + brightness + 0.5 * strength * balance


def blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Mix with the mean of 3 by 3 pixels, by a share of up to ``strength``."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    share = strength * uniform((len(x), 1, 1, 1), x, generator)
    return x + share * (F.avg_pool2d(padded, 3, stride=1) - x)


def erase(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blank a box whose sides are up to the share ``strength`` of the image's."""
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
class View:
    """One kind of view.

    ``source`` says where other cells come from: None, or "neighbors" for the same cell
    of a near row.  ``strength`` is the default of the parameter, ``most`` the most that
    it may be; 0 changes nothing.
    """

    alter: Callable[..., Tensor]
    strength: float
    of_images: bool = False
    source: str | None = None
    most: float = 1.0


VIEWS: dict[str, View] = {
    "jitter": View(jitter, 0.3, most=math.inf),
    "marginal": View(marginal, 0.4),
    "neighbors": View(swap, 0.5, source="neighbors"),
    "crop": View(crop, 0.75, of_images=True),
    "shift": View(shift, 0.15, of_images=True),
    "affine": View(affine, 0.3, of_images=True, most=math.inf),
    "flip": View(flip, 0.5, of_images=True),
    "color": View(color, 0.4, of_images=True, most=math.inf),
    "blur": View(blur, 0.5, of_images=True),
    "erase": View(erase, 0.5, of_images=True),
}
