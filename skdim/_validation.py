"""Checks of X, y and "image_shape", and their conversion to what training can read."""

import math
import sys
from contextlib import suppress
from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ._sklearn import namespace, to_numpy
from ._utils.rows import LazyRows, batches, check_finite, is_lazy, length

__all__ = [
    "check_labels",
    "check_rows",
    "is_count",
    "native",
    "resolve_row_shape",
    "returned",
]

# Data types that rows keep in memory, because each batch is converted when it is read.
# Rows of any other type become float64, the first.
_KEPT = [np.dtype(kind) for kind in ("f8", "f4", "f2", "u1", ">f8", ">f4", ">f2")]
_KEPT_TENSORS = ["float64", "float32", "uint8"]
# How the names of types of dates and times begin in NumPy, pandas and polars.
_OF_TIME = ("date", "time", "period", "duration")


def is_count(value):
    """Return True if a value is an integer above 0, else False; True is no integer."""
    integral = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    return integral and value > 0


def native(X):
    """Convert X to what the checks of rows take, and name the array library it is of.

    Lists become NumPy arrays.  Torch tensors become NumPy arrays too, unless
    scikit-learn's ``array_api_dispatch`` is on, when they stay on their device.  Arrays
    of other libraries become NumPy arrays if it is on.  Any other object, such as a
    data frame, is returned as it is.

    Parameters
    ----------
    X : array-like
        As the user gave it.

    Returns
    -------
    X : ndarray, Tensor or the object itself
        Tensors in half precision are float32, because NumPy has no bfloat16.
    name : str or None
        Name of the array API namespace of X, such as "torch"; None if dispatch is off,
        or if X is an object such as an HDF5 array, which is read by batches.
    """
    xp, name = namespace(X)
    if _is_tensor(X):
        X = X.detach()
        X = X.float() if X.dtype.itemsize == 2 else X  # NumPy has no bfloat16
        X = X.cpu().numpy() if name is None else X
    elif name not in (None, "numpy"):
        X = to_numpy(X, xp)
    elif isinstance(X, (list, tuple)):
        with suppress(ValueError):  # rows of different lengths fail in check_rows
            X = np.asarray(X)
    return X, name


def returned(outputs, X):
    """Convert results to the kind of array that the user passed.

    ``transform`` and ``score_samples`` return their results through this function.

    Parameters
    ----------
    outputs : ndarray or Tensor of shape (n_rows, ...)
        Results for the rows of X.
    X : array-like
        As the user gave it.

    Returns
    -------
    outputs : array of shape (n_rows, ...)
        An array of the library and on the device of X if scikit-learn's
        ``array_api_dispatch`` is on, otherwise a NumPy array.
    """
    xp, name = namespace(X)
    if name == "torch":
        return xp.asarray(outputs, device=X.device)
    outputs = np.asarray(outputs)
    return outputs if name in (None, "numpy") else xp.asarray(outputs, device=X.device)


def _is_tensor(X):
    torch = sys.modules.get("torch")  # X is no tensor if torch is not imported
    return torch is not None and isinstance(X, torch.Tensor)


def check_rows(estimator, X, *, reset, min_samples=1):
    """Check the rows that a user passes, and return them and the shape of one image.

    Parameters
    ----------
    estimator : estimator
        Transformer or detector that the rows are for.  It is named in error messages,
        and its attributes are set or compared, as ``reset`` says.
    X : array-like
        A table, a 4-D array of images, or an object that is read by batches.
    reset : bool
        True sets ``n_features_in_`` and ``feature_names_in_`` of the estimator, as in
        ``fit``.  False compares X with them and with the fitted shape of a row.
    min_samples : int
        Smallest number of rows that is accepted.

    Returns
    -------
    rows : ndarray, Tensor or LazyRows
        X, converted where necessary, of shape (n_rows, n_features) or (n_rows,
        *image_shape); the order of axes is that of X.  ``LazyRows``, for an X that is
        read by batches, checks rows when they are read.
    image_shape : tuple of three int or None
        Shape of one image; None for a table.

    Raises
    ------
    ValueError or TypeError
        If X is not a table or array of images, holds anything but finite numbers, has
        too few rows, or does not have the fitted shape.
    """
    name = type(estimator).__name__
    _check_no_dates(X, name)
    if is_lazy(X):
        _check_length(length(X), min_samples, name)
        X = LazyRows(X, name)
    ndim = getattr(X, "ndim", 2)
    if ndim == 3 or ndim > 4:
        where = "in what X returns" if isinstance(X, LazyRows) else "with X[..., None]"
        remedy = f"give images a channel axis {where}" if ndim == 3 else "reshape X"
        raise ValueError(
            f"Expected rows of 2 dimensions or images of 4. Got {ndim} dimensions, "
            f"{tuple(X.shape)}; {remedy}."
        )
    if isinstance(X, LazyRows) or ndim == 4:
        return _check_by_hand(estimator, X, reset, min_samples)
    rows = _converted(
        lambda: validate_data(
            estimator,
            X,
            reset=reset,
            dtype=_kept_types(X),
            ensure_all_finite=False,
            ensure_min_samples=min_samples,
        ),
        X,
        name,
    )
    _check_all_finite(rows, name)
    return rows, None


def _check_length(n_rows, min_samples, name):
    if n_rows < min_samples:
        raise ValueError(
            f"Found array with {n_rows} sample(s) while a minimum of {min_samples} is "
            f"required by {name}."
        )


def _kept_types(X):
    """Return a list of the data types that X may keep, for ``validate_data``.

    X is converted to the first one if its own type is not in the list.
    """
    if not _is_tensor(X):
        return _KEPT
    torch = sys.modules["torch"]
    kept = [getattr(torch, kind) for kind in _KEPT_TENSORS]
    return kept[1:] if X.device.type == "mps" else kept  # which has no float64


def _check_by_hand(estimator, X, reset, min_samples):
    """Check images, or rows that are read by batches, as ``check_rows`` checks a table.

    scikit-learn's ``validate_data`` accepts neither.  Dimensions, types, the number of
    rows and, for arrays, finite values are checked; ``n_features_in_`` is set or
    compared.

    Parameters
    ----------
    estimator : estimator
    X : LazyRows or array-like of four dimensions
    reset : bool
        True sets ``n_features_in_``, False compares with it.
    min_samples : int
        Least number of rows.

    Returns
    -------
    rows : array-like of shape (n_rows, ...)
        X, with numbers of a type that training can read.
    image_shape : tuple of three int or None
        Shape of one image as the user gave it; None for rows of a table.
    """
    name = type(estimator).__name__
    if isinstance(X, LazyRows):
        if X.ndim not in (2, 4):
            raise ValueError(
                f"X must return rows of 1 dimension or images of 3. Got "
                f"{X.ndim - 1} dimensions, {X.shape[1:]}, instead."
            )
        rows = X
    else:
        rows = _converted(
            lambda: check_array(
                X,
                dtype=_kept_types(X),
                ensure_2d=False,
                allow_nd=True,
                ensure_all_finite=False,
                ensure_min_samples=min_samples,
                estimator=estimator,
            ),
            X,
            name,
        )
        _check_all_finite(rows, name)
    shape = tuple(rows.shape[1:]) if rows.ndim == 4 else None
    if shape:
        _check_image_shape(estimator, shape, reset)
    _check_n_features(estimator, math.prod(rows.shape[1:]), reset)
    return rows, shape


def _check_n_features(estimator, n_features, reset):
    """Set or compare ``n_features_in_``; raise ValueError if it differs or is 0.

    Parameters
    ----------
    estimator : estimator
        Its attribute ``n_features_in_`` is set or compared.
    n_features : int
        Number of features of X.
    reset : bool
        True, in ``fit``, sets the attribute and removes the feature names of an earlier
        fit.  False raises if the attribute differs from ``n_features``.
    """
    name = type(estimator).__name__
    if n_features == 0:
        raise ValueError(
            f"Found array with 0 feature(s) while a minimum of 1 is required by {name}."
        )
    if reset:
        estimator.n_features_in_ = n_features
        vars(estimator).pop("feature_names_in_", None)
    elif n_features != estimator.n_features_in_:
        raise ValueError(
            f"X has {n_features} features, but {name} is expecting "
            f"{estimator.n_features_in_} features as input."
        )


def _converted(convert, X, name):
    """Return ``convert()``, with a helpful error if X holds text or objects.

    Parameters
    ----------
    convert : callable
        Converts X to an array of numbers, and takes no arguments.
    X : array-like
        What is converted, to find out if text is the cause of an error.
    name : str
        Name of the estimator, for the message.

    Raises
    ------
    ValueError or TypeError
        What ``convert()`` raises.  If X holds text or objects that are no numbers, the
        message says how to encode them.
    """
    try:
        return convert()
    except (TypeError, ValueError) as error:
        if _is_convertible(X):
            raise
        raise type(error)(
            f"Input X contains text or objects that are no numbers ({error}), and "
            f"{name} takes numbers only; encode them, as a ColumnTransformer with "
            f"OneHotEncoder does for columns of text, and make numbers of dates, such "
            f"as days since the first."
        ) from error


def _is_convertible(X):
    """Return True if all cells of X are numbers or convertible to floats, else False.

    ``X`` is an array-like of any shape.
    """
    if hasattr(X, "tocsr"):  # a sparse matrix, which has errors of its own
        return True
    values = np.asarray(X)
    if values.dtype.kind not in "OUS":
        return True
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _check_no_dates(X, name):
    """Raise ValueError if X holds dates or times.

    NumPy would silently convert them to counts of clock ticks.

    Parameters
    ----------
    X : array-like
        Of a data frame, every column is checked.
    name : str
        Name of the estimator, for the message.
    """
    kinds = getattr(X, "dtypes", getattr(X, "dtype", ()))
    kinds = kinds if hasattr(kinds, "__iter__") else [kinds]
    dates = [str(k) for k in kinds if str(k).lower().startswith(_OF_TIME)]
    if dates:
        raise ValueError(
            f"Input X contains dates ({dates[0]}), and {name} takes numbers only; make "
            f"numbers of them, such as days since the first."
        )


def _check_all_finite(rows, name):
    """Raise ValueError if an array or tensor of rows holds NaN or infinity.

    Arrays are checked in chunks, so that little memory is needed.

    Parameters
    ----------
    rows : ndarray or Tensor of shape (n_rows, ...)
    name : str
        Name of the estimator, for the message.
    """
    if _is_tensor(rows):
        is_finite = rows.isfinite().all() if rows.is_floating_point() else True
        if not is_finite:
            rows = rows.cpu().numpy()
    if not _is_tensor(rows):
        for chunk in batches(len(rows), math.prod(rows.shape[1:])):
            check_finite(rows[chunk], name)


def _check_image_shape(estimator, shape, reset):
    """Raise ValueError if the images of X do not have the expected shape.

    Parameters
    ----------
    estimator : estimator
        Knows the expected shape, and is named in the message.
    shape : tuple of three int
        Shape of one image of X.
    reset : bool
        True, in ``fit``, expects the shape in the estimator's "image_shape" parameter;
        None there allows any shape.  False expects the shape of the rows that the
        estimator was fitted on.
    """
    asked = getattr(estimator, "image_shape", None)  # a detector has none
    if reset and asked is None:
        return
    name = type(estimator).__name__
    if reset:
        wanted = _asked_image_shape(asked)
        source = "the 'image_shape' parameter is"
    else:
        wanted, source = estimator._fitted_row_shape, f"{name} was fitted on"
    if wanted != tuple(shape):
        is_table = len(wanted) == 1
        source += " rows of shape" if is_table else ""
        raise ValueError(
            f"X has images of shape {tuple(shape)}, but {source} {wanted}; pass "
            f"{'rows' if is_table else 'images'} of that shape."
        )


def resolve_row_shape(asked, shape, n_features):
    """Return the shape of one row of X, which tells tables from images.

    Parameters
    ----------
    asked : tuple of int or None
        The "image_shape" parameter of the estimator; None if flat rows are no images.
    shape : tuple of int or None
        Shape of one image of X; None if X is a table.
    n_features : int
        Number of values in a row of X.

    Returns
    -------
    row_shape : tuple of int
        ``(n_features,)`` for a table.  For images three numbers, channels first or
        last as the user has them.

    Raises
    ------
    ValueError
        If "image_shape" is invalid, or asks for more or fewer values than a row has.
    """
    if shape is None and asked is None:
        return (n_features,)
    if shape is None:
        shape = _asked_image_shape(asked)
    if math.prod(shape) != n_features:
        raise ValueError(
            f"The 'image_shape' parameter {tuple(asked)} asks for {math.prod(shape)} "
            f"values a row. Got rows of {n_features} instead; correct 'image_shape' or "
            f"pass images as a 4-D array."
        )
    return shape


def _asked_image_shape(asked):
    """Return the "image_shape" parameter as a tuple of three int.

    Parameters
    ----------
    asked : tuple of int
        The parameter: two or three integers above 0.  Two are the height and width of
        images with one channel; 1 is then appended.

    Raises
    ------
    ValueError
        If ``asked`` is anything else.
    """
    shape = tuple(asked) if np.ndim(asked) == 1 else ()
    if len(shape) not in (2, 3) or not all(map(is_count, shape)):
        raise ValueError(
            f"The 'image_shape' parameter must be two or three integers above 0. Got "
            f"{asked!r} instead."
        )
    shape = tuple(int(size) for size in shape)
    return shape if len(shape) == 3 else (*shape, 1)


def check_labels(estimator, y, rows):
    """Check the user's y and return the classes of rows as integers.

    They are used to make training pairs of two rows of one class.

    Parameters
    ----------
    estimator : estimator
        Named in error messages.
    y : array-like of shape (n_rows,)
        Classes, numbers or text.  The number -1 marks a row whose class is not known.
    rows : array-like of shape (n_rows, ...)
        Checked rows; y must have as many.

    Returns
    -------
    labels : ndarray of int of shape (n_rows,)
        Classes numbered from 0 in the order of their first appearance; -1 stays -1.

    Raises
    ------
    ValueError
        If y is None, does not have one entry for each row, holds continuous numbers
        instead of classes, or marks rows by the text "-1".
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} with supervised=True requires y to be passed, "
            f"but the target y is None; pass classes, or set supervised=False."
        )
    y = column_or_1d(_as_numpy(y), warn=True)
    check_consistent_length(rows, y)
    if y.dtype.kind in "US" and "-1" in y.astype(str):
        raise ValueError(
            "y must mark rows without a class by the number -1, but got the text "
            "'-1'; pass an array of dtype object, such as y.astype(object) with -1 "
            "put in."
        )
    known = np.array([label != -1 for label in y.tolist()], dtype=bool)
    classes = y[known].tolist()
    labels = np.full(len(y), -1)
    if classes:
        check_classification_targets(np.array(classes))
        number = {label: k for k, label in enumerate(dict.fromkeys(classes))}
        labels[known] = [number[label] for label in classes]  # keeps 1 and "1" apart
    return labels


def _as_numpy(y):
    """Return y, which may be a tensor or of another array library, as a NumPy array."""
    y, name = native(y)
    return y.cpu().numpy() if name == "torch" else y
