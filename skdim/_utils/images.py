"""Axis order of images: the user may choose it, and encoders get channels first."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ChannelsFirst", "input_shape", "is_channels_first"]

_MOST_CHANNELS = 4


def is_channels_first(image_shape: tuple[int, int, int]) -> bool:
    """Return True if channels are the first axis of an image, False if the last.

    They are first only if the first axis has at most 4 entries and the last has more.

    Parameters
    ----------
    image_shape : tuple of three int
        Shape of one image as the user gave it.
    """
    return image_shape[2] > _MOST_CHANNELS >= image_shape[0]


def input_shape(row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that one row has when it is passed to an encoder.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of one row as the user gave it: ``(n_features,)``, ``(height, width,
        channels)`` or ``(channels, height, width)``.

    Returns
    -------
    shape : tuple of int
        ``(n_features,)`` for a row of a table, ``(channels, height, width)`` for an
        image.
    """
    if len(row_shape) == 1 or is_channels_first(row_shape):
        return row_shape
    height, width, channels = row_shape
    return (channels, height, width)


class ChannelsFirst:
    """Array-like object that returns the user's images with channels first.

    Encoders read images in this form.  Indexing by a slice or an array of integers
    returns an array or tensor of shape (n_indexed, channels, height, width).  Only the
    indexed images are copied.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        Images in the user's axis order, or each image as a flat row.
    image_shape : tuple of three int
        Shape of one image as the user gave it: ``(height, width, channels)`` or
        ``(channels, height, width)``.

    Attributes
    ----------
    shape : tuple of int
        ``(n_rows, channels, height, width)``.
    dtype : data type of ``rows``
    device : torch.device
        Device of ``rows``, if they are a tensor.
    """

    def __init__(self, rows: Any, image_shape: tuple[int, int, int]) -> None:
        self._rows, self._image_shape = rows, image_shape
        self._is_first = is_channels_first(image_shape)
        self.shape = (len(rows), *input_shape(image_shape))
        self.dtype = rows.dtype
        if hasattr(rows, "device"):  # of a tensor: codes are returned on its device
            self.device = rows.device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> Any:
        # An array of indices copies the images, which callers rely on; a slice of an
        # array would not.
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        images = self._rows[index]
        images = images.reshape(len(images), *self._image_shape)
        return images if self._is_first else images.swapaxes(2, 3).swapaxes(1, 2)
