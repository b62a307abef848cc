"""Augmentations: functions that change each row of a batch at random.

The changed copy of a row is a view.  Training compares codes of views, so that codes
ignore what an augmentation changes.

Every augmentation is called as ``(x, strength, generator)``, or as ``(x, near,
strength, generator)`` if it needs near rows.  ``x`` are scaled inputs: tables of shape
(n_rows, n_features), or images of shape (n_images, channels, height, width).  Row i of
``near``, of the same shape, is one of the nearest rows of row i.  A ``strength`` of 0
changes nothing.  ``generator`` makes all draws, independently for each row.  The result
is a new tensor of the same shape.
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
    """Return independent draws from U[0, 1) in a tensor of this shape.

    It has the data type and the device of the tensor ``like``.
    """
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return draws.uniform_(generator=generator)


def _per_image(x: Tensor, generator: torch.Generator, n: int = 1) -> Tensor:
    """Draw ``n`` independent numbers, uniform in [-1, 1), for each image of ``x``.

    The result has the shape (n, n_images, 1, 1, 1): each of its n parts broadcasts with
    the images, of shape (n_images, channels, height, width).
    """
    return 2 * uniform((n, len(x), 1, 1, 1), x, generator) - 1


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Choose each image of the batch ``x`` with this probability, independently.

    The result is a mask of shape (n_images, 1, 1, 1), True for the chosen images.
    """
    return uniform((len(x), 1, 1, 1), x, generator) < probability


# Tables


def jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return a table with normal noise of standard deviation ``strength`` added.

    An augmentation of tables.  The noise is independent for each cell of ``x``, which
    holds scaled columns and has the shape (n_rows, n_features).
    """
    noise = torch.empty_like(x).normal_(std=strength, generator=generator)
    return x + noise


def swap(
    x: Tensor, near: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Return a table in which some cells are replaced by those of a near row.

    An augmentation of tables.  Each cell of ``x`` is replaced, independently with
    probability ``strength``, by the same cell of ``near``.  Both have the shape
    (n_rows, n_features), and row i of ``near`` is one of the nearest rows of row i of
    ``x``.
    """
    return torch.where(uniform(x.shape, x, generator) < strength, near, x)


def marginal(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return a table in which some cells are replaced by others of their column.

    An augmentation of tables.  Each cell of ``x``, of shape (n_rows, n_features), is
    replaced, independently with probability ``strength``, by the cell of a random row
    of ``x`` in the same column.  This is the corruption of SCARF, arXiv 2106.15147.
    """
    rows = torch.randint(len(x), x.shape, generator=generator, device=x.device)
    return swap(x, x.gather(0, rows), strength, generator)


# Images


def shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images shifted at random by whole pixels along height and width.

    An augmentation.  Both shifts are drawn for each image of ``x``, of shape (n_images,
    channels, height, width), uniformly from ``-strength`` to ``strength`` times its
    height or width.  Pixels at the edge are repeated.
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
    """Draw for each of ``n`` images by how many pixels it is shifted along one axis.

    Draws are integers, uniform between ``-strength * size`` and ``strength * size``,
    with ``size`` the number of pixels along the axis.  The result has the shape (n, 1)
    and is on the device of ``like``.
    """
    most = round(strength * size)
    return torch.randint(
        -most, most + 1, (n, 1), generator=generator, device=like.device
    )


def affine(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images that are rotated, scaled, sheared and shifted at random.

    An augmentation.  At ``strength`` 1, each image of ``x``, of shape (n_images,
    channels, height, width), is rotated by up to 60 degrees, scaled by a factor from
    exp(-0.4) to exp(0.4), sheared by up to 0.4 pixels a pixel, and shifted by up to 20
    % of its height and width.  Angle, logarithm of the factor, shear and shifts are
    drawn uniformly, and their limits are proportional to ``strength``.
    """
    angle, stretch, shear, right, down = _per_image(x, generator, 5) * strength
    angle = angle * (math.pi / 3)
    zoom = (0.4 * stretch).exp()
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # Coordinates go from -1 to 1 over height and width; ``tall`` makes pixels square.
    tall = x.shape[2] / x.shape[3]
    top = torch.cat([cos, (0.4 * shear - sin) * tall, 0.4 * right], dim=3)
    bottom = torch.cat([sin / tall, cos, 0.4 * down], dim=3)
    return _resample(x, torch.cat([top, bottom], dim=2)[:, 0])


def crop(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return a random box of each image, enlarged to the size of the image.

    An augmentation.  The box has at least ``1 - strength`` of the area of its image.
    Its aspect ratio is that of the image times a random factor, between 3/4 and 4/3 at
    ``strength`` 1 and nearer to 1 below.  ``x`` has the shape (n_images, channels,
    height, width).
    """
    area = 1 - strength * uniform((len(x), 1, 1, 1), x, generator)
    stretch, right, down = _per_image(x, generator, 3)
    # Aspect ratios up to 4/3 times that of the image; no side longer than the image.
    ratio = (0.5 * math.log(4 / 3) * strength * stretch).exp()
    wide, high = (
        side.clamp(max=1) for side in (area.sqrt() * ratio, area.sqrt() / ratio)
    )
    zero = torch.zeros_like(wide)
    top = torch.cat([wide, zero, right * (1 - wide)], dim=3)
    bottom = torch.cat([zero, high, down * (1 - high)], dim=3)
    return _resample(x, torch.cat([top, bottom], dim=2)[:, 0])


def _resample(x: Tensor, maps: Tensor) -> Tensor:
    """Return images under an affine map of each, for ``affine`` and ``crop``.

    Pixels are interpolated bilinearly.  ``x`` has the shape (n_images, channels,
    height, width), and ``maps`` the shape (n_images, 2, 3).  The affine map of an image
    takes the coordinates (right, down, 1) of a pixel of the result to those of the
    place in ``x`` that it shows.  Coordinates go from -1 to 1 over width and height.
    Outside the image, pixels at the edge are repeated.
    """
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def flip(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images, each mirrored left to right with probability ``strength``.

    An augmentation.  ``x`` has the shape (n_images, channels, height, width).
    """
    return torch.where(_chosen(x, strength, generator), x.flip(3), x)


def color(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images with random brightness, contrast, saturation and colour balance.

    An augmentation.  For each image of ``x``, of shape (n_images, channels, height,
    width), with every ``u`` drawn uniformly from [-1, 1):

    - saturation: the difference of each pixel from its mean over channels is multiplied
      by ``1 + strength * u``;
    - contrast: the difference of the image from its mean is multiplied by another such
      factor;
    - brightness: ``strength * u`` is added to the image;
    - balance: ``0.5 * strength * u`` is added to each channel.
    """
    brightness, contrast, saturation = _per_image(x, generator, 3) * strength
    balance = 2 * uniform((len(x), x.shape[1], 1, 1), x, generator) - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + contrast) + brightness + 0.5 * strength * balance


def blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images that are mixed with their 3x3 box blur.

    An augmentation.  The share of the blur is drawn uniformly from [0, strength) for
    each image of ``x``, of shape (n_images, channels, height, width).
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    share = strength * uniform((len(x), 1, 1, 1), x, generator)
    return x + share * (F.avg_pool2d(padded, 3, stride=1) - x)


def erase(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images in which a random box is set to 0, in all channels.

    An augmentation.  Height and width of the box are drawn, for each image of ``x``,
    uniformly from 0 to ``strength`` times those of the image.  ``x`` has the shape
    (n_images, channels, height, width); 0 is the mean of a channel whose inputs are
    standardised.
    """
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
    """An augmentation function and what callers must know of it.

    Attributes
    ----------
    augment : callable
        The function, called as ``augment(x, strength, generator)``, or as ``augment(x,
        near, strength, generator)`` if ``needs_neighbors``.
    strength : float
        Default strength; 0 changes nothing.
    for_images : bool
        True for images of shape (n_images, channels, height, width), False for tables
        of shape (n_rows, n_features).
    needs_neighbors : bool
        True if the function takes a near row of each row, else False.
    largest_strength : float
        Largest strength that users may ask for: 1 for probabilities and shares.
    """

    augment: Callable[..., Tensor]
    strength: float
    for_images: bool = False
    needs_neighbors: bool = False
    largest_strength: float = 1.0


# Augmentations that ``Views`` accepts by name.
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
