"""The layout of images: whatever the user's, the core sees channels first."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ChannelsFirst", "input_shape", "is_channels_first"]

_MOST_CHANNELS = 4


def is_channels_first(image_shape: tuple[int, int, int]) -> bool:
    """Return whether the first axis of an image holds its channels, or the last one.

    Channels are the last axis unless only the first one is as short as 4.
    """
    return image_shape[2] > _MOST_CHANNELS >= image_shape[0]


def input_shape(row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one row in the core, from its shape as the user gave it.

    Parameters
    ----------
    row_shape : tuple of int
        ``(n_features,)``, ``(height, width, channels)`` or ``(channels, height,
        width)``.

    Returns
    -------
    shape : tuple of int
        ``(n_features,)`` or ``(channels, height, width)``.
    """
    if len(row_shape) == 1 or is_channels_first(row_shape):
        return row_shape
    height, width, channels = row_shape
    return (channels, height, width)


class ChannelsFirst:
    """Rows that are read as images with channels first; nothing is copied before.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        Images, or images as flat rows.
    image_shape : tuple of int
        Shape of one image as the user gave it.
    """

    def __init__(self, rows: Any, image_shape: tuple[int, int, int]) -> None:
        self._rows, self._image_shape = rows, image_shape
        self._is_first = is_channels_first(image_shape)
        self.shape = (len(rows), *input_shape(image_shape))
        self.dtype = rows.dtype
        if hasattr(rows, "device"):  # of a tensor: results return to it
            self.device = rows.device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> Any:
        # Indices copy, in the order of the user's layout, where slices would not.
        index = np.arange(len(self))[index] if isinstance(index, slice) else index
        images = self._rows[index]
        images = images.reshape(len(images), *self._image_shape)
        return images if self._is_first else images.swapaxes(2, 3).swapaxes(1, 2)
