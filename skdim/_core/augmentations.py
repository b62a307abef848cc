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
    """Return a tensor of independent draws from U[0, 1), made by ``generator``.

    The tensor has the given ``shape``, and the data type and the device of ``like``.
    """
    draws = torch.empty(shape, dtype=like.dtype, device=like.device)
    return draws.uniform_(generator=generator)


def _per_image(x: Tensor, generator: torch.Generator, n: int = 1) -> Tensor:
    """Draw ``n`` independent numbers, uniform in [-1, 1), for each image of ``x``.

    Augmentations turn them into angles, factors and shifts.  ``x`` has the shape
    (n_images, channels, height, width), and the result has the shape (n, n_images, 1,
    1, 1): each of its n elements along the first axis broadcasts with ``x``.
    ``generator`` makes the draws.
    """
    return 2 * uniform((n, len(x), 1, 1, 1), x, generator) - 1


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Choose images at random, each independently with the given ``probability``.

    Used by ``flip``.  ``x`` has the shape (n_images, channels, height, width).  The
    result is a mask of shape (n_images, 1, 1, 1), True for the chosen images.
    ``generator`` makes the draws.
    """
    return uniform((len(x), 1, 1, 1), x, generator) < probability


# Tables


def jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return a table with normal noise of standard deviation ``strength`` added.

    An augmentation of tables.  ``generator`` draws the noise independently for each
    cell of ``x``, which holds scaled columns and has the shape (n_rows, n_features).
    """
    noise = torch.empty_like(x).normal_(std=strength, generator=generator)
    return x + noise


def swap(
    x: Tensor, near: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Return a table in which some cells are replaced by those of a near row.

    The augmentation of tables that users call "neighbors".  Each cell of ``x`` is
    replaced, independently with probability ``strength``, by the cell of ``near`` in
    the same place.  ``x``, ``near`` and the result have the shape (n_rows, n_features),
    and row i of ``near`` is one of the nearest rows of row i of ``x``.  ``generator``
    chooses the cells.
    """
    return torch.where(uniform(x.shape, x, generator) < strength, near, x)


def marginal(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return a table in which some cells are replaced by others of their column.

    An augmentation of tables.  Each cell of ``x``, of shape (n_rows, n_features), is
    replaced, independently with probability ``strength``, by the cell of a random row
    of ``x`` in the same column.  ``generator`` chooses cells and rows.  This is the
    corruption of SCARF, arXiv 2106.15147.
    """
    rows = torch.randint(len(x), x.shape, generator=generator, device=x.device)
    return swap(x, x.gather(0, rows), strength, generator)


# Images


def shift(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images shifted at random by whole pixels along height and width.

    An augmentation of images.  For each image of ``x``, of shape (n_images, channels,
    height, width), ``generator`` draws two shifts independently: one uniformly from
    ``-strength`` to ``strength`` times the height, the other likewise times the width.
    What moves in from outside the image repeats the pixels at the edge.
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
    """Draw for each of ``n`` images by how many pixels ``shift`` moves it on one axis.

    ``size`` is the number of pixels along the axis.  ``generator`` draws integers,
    uniformly from ``-m`` to ``m`` with ``m = round(strength * size)``.  The result has
    the shape (n, 1) and is on the device of ``like``.
    """
    most = round(strength * size)
    return torch.randint(
        -most, most + 1, (n, 1), generator=generator, device=like.device
    )


def affine(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images that are rotated, scaled, sheared and shifted at random.

    An augmentation of images.  At ``strength`` 1, each image of ``x``, of shape
    (n_images, channels, height, width), is rotated by up to 60 degrees, scaled by a
    factor from exp(-0.4) to exp(0.4), sheared by up to 0.4 pixels a pixel, and shifted
    by up to 20 % of its height and width.  ``generator`` draws angle, logarithm of the
    factor, shear and shifts uniformly for each image.  The limits are proportional to
    ``strength``; each is that of its change alone.
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

    An augmentation of images.  ``x`` and the result have the shape (n_images, channels,
    height, width).  ``generator`` draws size and place of a box in each image.  The box
    has at least ``1 - strength`` of the area of the image.  The aspect ratio of the box
    is that of the image times a random factor.  At ``strength`` 1 the factor is between
    3/4 and 4/3; the smaller the strength, the nearer to 1.
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
    """Apply one affine map of coordinates to each image, for ``affine`` and ``crop``.

    ``x`` and the result have the shape (n_images, channels, height, width), and
    ``maps`` has the shape (n_images, 2, 3).  A pixel of the result with coordinates
    (right, down) shows the place ``map @ (right, down, 1)`` of the image in ``x``.
    Coordinates go from -1 to 1 over width and height.  Pixels are interpolated
    bilinearly, and outside the image the pixels at the edge are repeated.
    """
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def flip(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images, each mirrored left to right with probability ``strength``.

    An augmentation of images.  ``x`` has the shape (n_images, channels, height, width).
    ``generator`` chooses each image independently.
    """
    return torch.where(_chosen(x, strength, generator), x.flip(3), x)


def color(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images with random brightness, contrast, saturation and colour balance.

    An augmentation of images.  The following is done to each image of ``x``, of shape
    (n_images, channels, height, width).  ``generator`` draws every ``u`` independently
    and uniformly from [-1, 1):

    - saturation: the difference of each pixel from its mean over channels is multiplied
      by ``1 + strength * u``;
    - contrast: the difference of each pixel from the mean of the image, over pixels and
      channels, is multiplied by ``1 + strength * u``;
    - brightness: ``strength * u`` is added to the image;
    - balance: ``0.5 * strength * u`` is added to each channel, with its own ``u``.
    """
    brightness, contrast, saturation = _per_image(x, generator, 3) * strength
    balance = 2 * uniform((len(x), x.shape[1], 1, 1), x, generator) - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + contrast) + brightness + 0.5 * strength * balance


def blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images that are mixed with their 3x3 box blur.

    An augmentation of images.  Each image of ``x``, of shape (n_images, channels,
    height, width), becomes ``(1 - share) * image + share * blurred``.  ``generator``
    draws the share uniformly from [0, strength) for each image.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    share = strength * uniform((len(x), 1, 1, 1), x, generator)
    return x + share * (F.avg_pool2d(padded, 3, stride=1) - x)


def erase(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images in which a random box is set to 0, in all channels.

    An augmentation of images.  ``x`` has the shape (n_images, channels, height, width).
    For each image, ``generator`` draws the height and the width of a box uniformly from
    0 to ``strength`` times those of the image, and its place uniformly inside the
    image.  0 is the mean of a channel whose inputs are standardised.
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
    """A built-in augmentation: its function, and how the function may be called.

    Parameters
    ----------
    augment : callable
        Called as ``augment(x, strength, generator)``, or as ``augment(x, near,
        strength, generator)`` if ``needs_neighbors`` is True.  Returns a randomly
        changed copy of the rows ``x``, of the same shape.
    strength : float
        Default strength of the change; 0 changes nothing.
    for_images : bool, default=False
        True if ``x`` holds images, of shape (n_images, channels, height, width); False
        if ``x`` is a table, of shape (n_rows, n_features).
    needs_neighbors : bool, default=False
        True if the function takes ``near``, a tensor of the shape of ``x`` whose row i
        is one of the nearest rows of row i of ``x``; else False.
    largest_strength : float, default=1.0
        Largest strength that users may set: 1 if the strength is a probability or a
        share, else infinity.
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
