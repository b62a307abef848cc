"""Pure functions from parameters and the shape of the data to a configuration.

Every "auto" is decided here, and parameters that do not go together are refused.
``params`` is always the dict that ``get_params(deep=False)`` of an estimator returns.
The results, such as ``ModelSpec``, are the dataclasses of ``_core.config``.
"""

import math
from dataclasses import fields, replace

import numpy as np

from . import _core
from ._utils.distributions import Distribution
from ._validation import is_count
from ._views import Views

__all__ = [
    "BATCH_SIZE",
    "deep_infomax",
    "differences",
    "full_batch_size",
    "noise_injected",
    "training",
    "with_encoder",
]

# Found by measurement: docs/defaults.md.
BATCH_SIZE = 256
STEPS = 400  # of training, by max_iter="auto"
_WIDEST_NOISE_OF_IMAGES = 1.0
_N_NOISE_DRAWS_BESIDE_CONV = 4  # takes little of a step's time there


def full_batch_size(params):
    """Return the number of rows per training step that the parameters ask for.

    ``params`` is the dict of an estimator's parameters; "auto" is 256.  If there are
    fewer rows, the caller takes all of them as one batch.
    """
    return BATCH_SIZE if params["batch_size"] == "auto" else int(params["batch_size"])


def training(params, model, n_rows, batch_size, seed):
    """Return the configuration of one run of training, for ``fit`` or ``partial_fit``.

    Parameters
    ----------
    params : dict
        Parameters of the estimator.
    model : ModelSpec
        The model to train.
    n_rows : int
        Number of training rows, by which ``max_iter="auto"`` chooses how many epochs
        make 400 steps.
    batch_size : int
        Number of rows per training step.
    seed : int
        Seed of all random draws of this run.

    Returns
    -------
    config : TrainingConfig

    Raises
    ------
    ValueError
        If the learning rate times the weight decay is above 1, "input_scaling" is
        invalid, or torch cannot use the device.
    """
    _check_decay(params)
    max_iter = params["max_iter"]
    if max_iter == "auto":
        max_iter = math.ceil(STEPS / max(1, n_rows // batch_size))
    return _core.config.TrainingConfig(
        model=model,
        batch_size=batch_size,
        max_iter=int(max_iter),
        learning_rate=float(params["learning_rate_init"]),
        weight_decay=float(params["weight_decay"]),
        patience=params["n_iter_no_change"] if params["early_stopping"] else None,
        seed=seed,
        device=_core.runtime.resolve_device(params["device"]),
        scaling=_scaling(params["input_scaling"], model.network.input_shape[0]),
    )


def noise_injected(params, input_shape, batch_size):
    """Return the configuration of the model of a ``NoiseInjectedDIM``.

    Parameters
    ----------
    params : dict
        Parameters of the estimator.
    input_shape : tuple of int
        Shape of one row: (n_features,), or (channels, height, width).
    batch_size : int
        Number of rows per training step, by which "auto" chooses ``noise_scale`` and
        ``sliced_weight``.

    Returns
    -------
    model : ModelSpec
        With every "auto" replaced by a value.

    Raises
    ------
    ValueError
        If parameters do not fit the data or each other.
    """
    Distribution(params["output_distribution"]).check_copies()
    pairs = _pairs(params, input_shape)
    network = _network(params, input_shape, pairs.has_pairs)
    noise_scale = _noise_scale(params, batch_size, network.is_image, pairs.has_pairs)
    channel = _core.channels.CHANNELS[params["noise_distribution"]](noise_scale)
    # Of tables with views, only the noisy code is whitened: directions that the views
    # have nearly erased stay small (docs/defaults.md).
    of_noisy_code = pairs.has_views and not network.is_image
    model = _core.config.ModelSpec(
        network=replace(
            network,
            shrinkage=channel.noise_share if of_noisy_code else None,
        ),
        pairs=pairs,
        noise_distribution=params["noise_distribution"],
        noise_scale=noise_scale,
        critic=params["critic"],
        bound=params["objective"],
        agreement_weight=_agreement_weight(params, network.is_image, pairs.has_pairs),
        sliced_weight=_sliced_weight(params, network.is_image, batch_size),
        n_noise_draws=_N_NOISE_DRAWS_BESIDE_CONV if network.encoder == "conv" else 1,
    )
    _check_agreement(model)
    return model


def deep_infomax(params, input_shape):
    """Return the configuration of the model of a ``DeepInfoMax``.

    Parameters
    ----------
    params : dict
        Parameters of the estimator.
    input_shape : tuple of int
        Shape of one row: (n_features,), or (channels, height, width).

    Returns
    -------
    model : ModelSpec
        With every "auto" replaced by a value.

    Raises
    ------
    ValueError
        If parameters do not fit the data or each other.
    """
    pairs = _pairs(params, input_shape)
    network = _network(params, input_shape, pairs.has_pairs)
    if not (params["global_weight"] or params["local_weight"]):
        raise ValueError(
            "DeepInfoMax needs information to maximise. Got global_weight=0 and "
            "local_weight=0; set one of them above 0."
        )
    return _core.config.ModelSpec(
        network=replace(network, normalizes=False),
        pairs=pairs,
        noise_distribution=params["prior"],
        bound=params["objective"],
        global_weight=float(params["global_weight"]),
        local_weight=float(params["local_weight"]),
        prior_weight=float(params["prior_weight"]),
        feature_critic=params["critic"],
    )


def _noise_scale(params, batch_size, is_image, has_pairs):
    """Return the scale of the noise: the parameter or, for "auto", a computed value.

    "auto" gives the noisy channel the capacity ``log(batch_size)`` nats.  For tables
    without pairs under normal noise it is half of that: there every detail of a row
    tells it from other rows, and wider noise keeps only details that help on held-out
    rows too.  The scale is then clipped to at most 1 for images, and to at most
    ``widest_noise`` of the channel.

    Parameters
    ----------
    params : dict
        Parameters of a ``NoiseInjectedDIM``.
    batch_size : int
        Number of rows per training step.
    is_image : bool
        True if rows are images, False if they are rows of a table.
    has_pairs : bool
        True if codes are compared with those of views or of rows of the same class.

    Returns
    -------
    noise_scale : float
        Standard deviation of normal noise or half-width of uniform noise, for codes
        that follow N(0, 1) or U[0, 1].
    """
    if params["noise_scale"] != "auto":
        return float(params["noise_scale"])
    name = params["noise_distribution"]
    share = 1.0 if is_image or has_pairs or name != "normal" else 0.5
    channel = _core.channels.CHANNELS[name]
    channel = channel.for_batch(batch_size, params["n_components"], share)
    widest = _WIDEST_NOISE_OF_IMAGES if is_image else math.inf
    return min(channel.noise_scale, widest)


def _agreement_weight(params, is_image, has_pairs):
    """Return the share, from 0 to 1, of the Barber-Agakov bound in the objective.

    It is the parameter.  "auto" is ``16 / n_components``, clipped to [0.25, 0.95], for
    images with pairs and ``critic="channel"``, and 0 otherwise.

    Parameters
    ----------
    params : dict
        Parameters of a ``NoiseInjectedDIM``.
    is_image : bool
        True if rows are images, False if they are rows of a table.
    has_pairs : bool
        True if codes are compared with those of views or of rows of the same class.
    """
    if params["agreement_weight"] != "auto":
        return float(params["agreement_weight"])
    if not (is_image and has_pairs and params["critic"] == "channel"):
        return 0.0
    return min(0.95, 16 / _n_components_for_weights(params))


def _sliced_weight(params, is_image, batch_size):
    """Return the weight of the sliced Kullback-Leibler divergence in the objective.

    It is the parameter.  "auto" is 0 for tables.  For images it is ``max(48 * min(1, B
    / 256), 32 * sqrt(d) * min(1, B / 512)**3)``, where B is the batch size and d is
    ``n_components`` clipped to [16, 64].  The weight grows with B because in a small
    batch much of the divergence is chance.

    Parameters
    ----------
    params : dict
        Parameters of a ``NoiseInjectedDIM``.
    is_image : bool
        True if rows are images, False if they are rows of a table.
    batch_size : int
        Number of rows per training step, B.
    """
    if params["sliced_weight"] != "auto":
        return float(params["sliced_weight"])
    if not is_image:
        return 0.0
    fullness = min(1, batch_size / 512)
    many = 32 * math.sqrt(_n_components_for_weights(params)) * fullness**3
    return max(48 * min(1, 2 * fullness), many)


def _n_components_for_weights(params):
    """Return the parameter ``n_components``, clipped to [16, 64].

    The "auto" values of ``agreement_weight`` and ``sliced_weight`` are computed from
    it.  ``params`` is the dict of an estimator's parameters.
    """
    return min(max(params["n_components"], 16), 64)


def _check_agreement(model):
    """Raise ValueError if a model has an ``agreement_weight`` that it cannot use.

    This is the weight of the Barber-Agakov bound, which needs codes of views or of
    other rows of the class to compare noisy codes with, and ``critic="channel"``.

    Parameters
    ----------
    model : ModelSpec
        The configuration to check.
    """
    if not model.agreement_weight:
        return
    if not model.pairs.has_pairs:
        raise ValueError(
            "agreement_weight above 0 needs views or supervised=True. Got views=None "
            "instead; pass views, or set agreement_weight=0."
        )
    if model.critic != "channel":
        raise ValueError(
            f"agreement_weight above 0 needs critic='channel'. Got {model.critic!r} "
            f"instead; use that critic, or set agreement_weight=0."
        )


def _check_decay(params):
    """Raise ValueError if learning rate times weight decay is above 1.

    Weight decay multiplies the weights of the network by ``1 - learning_rate_init *
    weight_decay`` in each step, which would then be negative.  ``params`` is the dict
    of an estimator's parameters.
    """
    rate, decay = params["learning_rate_init"], params["weight_decay"]
    if float(rate) * float(decay) <= 1:
        return
    culprit = "learning_rate_init" if rate > decay else "weight_decay"
    raise ValueError(
        f"learning_rate_init times weight_decay, the share by which a step shrinks the "
        f"weights, must be at most 1. Got {rate!r} times {decay!r} instead; lower "
        f"{culprit!r}."
    )


def _scaling(input_scaling, n):
    """Return the mean and scale that the user sets for inputs, or None for "auto".

    Parameters
    ----------
    input_scaling : "auto" or tuple of (mean, scale)
        The parameter; each is a number or an array of n numbers.
    n : int
        Number of columns of a table, or of channels of images.

    Returns
    -------
    scaling : tuple of (mean, scale) or None
        Two arrays of shape (n,), by which inputs are shifted and divided; a scale of 0
        marks a column to ignore.  None means that mean and scale are computed from the
        data.

    Raises
    ------
    ValueError
        If the parameter is not "auto" or a pair of numbers or arrays of n numbers, if
        one of the numbers is NaN or infinite, or if a scale is below 0 or so close to 0
        that its inverse is infinite.
    """
    if isinstance(input_scaling, str):
        return None
    try:
        mean, scale = (
            np.broadcast_to(np.asarray(part, dtype=float), n).copy()
            for part in input_scaling
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The 'input_scaling' parameter must hold mean and scale, numbers or "
            f"arrays of {n} numbers. Got {input_scaling!r} instead."
        ) from error
    with np.errstate(over="ignore"):
        inverse = 1 / np.where(scale == 0, 1, scale)
    if not np.isfinite([mean, scale, inverse]).all() or (scale < 0).any():
        raise ValueError(
            f"The 'input_scaling' parameter must hold finite numbers, and scales of 0 "
            f"or well above. Got {input_scaling!r} instead."
        )
    return mean, scale


def _pairs(params, input_shape):
    """Return the configuration of training pairs: how views of rows are made.

    Parameters
    ----------
    params : dict
        Parameters of an estimator, of which "views" and "supervised" are used.
    input_shape : tuple of int
        Shape of one row: (n_features,), or (channels, height, width).

    Returns
    -------
    pairs : PairSpec

    Raises
    ------
    ValueError
        If an augmentation is unknown or not for rows of this shape, or a parameter of
        ``Views`` is invalid.
    """
    views = params["views"]
    if not isinstance(views, Views):
        views = Views(views)
    views._validate_params()
    is_image = len(input_shape) > 1
    steps = views.augmentations
    if isinstance(steps, str) and steps == "auto":
        steps = _default_augmentations(input_shape)
    if steps is None or isinstance(steps, str) or callable(steps):
        steps = [] if steps is None else [steps]
    for step in steps:
        if not callable(step) or isinstance(step, type):
            _check_augmentation(step, views.strength, is_image)
    strength = views.strength
    return _core.config.PairSpec(
        augmentations=tuple(steps),
        strength=None if strength == "auto" else float(strength),
        sides=views.sides,
        n_views=int(views.n_views),
        n_neighbors=int(views.n_neighbors),
        by_class=bool(params["supervised"]),
    )


def _default_augmentations(input_shape):
    """Return a list of the names of the augmentations that "auto" stands for.

    ``input_shape`` is the shape of one row: (n_features,) for a table, which gives
    "neighbors", or (channels, height, width), where the number of channels decides.
    """
    if len(input_shape) == 1:
        return ["neighbors"]
    by_channels = {1: ["affine"], 3: ["crop", "flip", "color"]}
    by_channels[4] = by_channels[3]
    return by_channels.get(input_shape[0], ["crop"])


def _check_augmentation(step, strength, is_image):
    """Raise ValueError if an augmentation does not suit the data, or is too strong.

    Parameters
    ----------
    step : object
        Accepted if it is the name of an augmentation for such rows.
    strength : "auto" or float
        The parameter ``strength`` of ``Views``.
    is_image : bool
        True if rows are images, False if they are rows of a table.
    """
    kinds = _core.augmentations.AUGMENTATIONS
    fitting = sorted(n for n, kind in kinds.items() if kind.for_images == is_image)
    if step not in fitting:
        raise ValueError(
            f"The 'views' parameter must hold functions or names among {fitting} for "
            f"{'images' if is_image else 'a table'}. Got {step!r} instead."
        )
    if strength != "auto" and strength > kinds[step].largest_strength:
        raise ValueError(
            f"The 'strength' of Views is a share for {step!r}, at most "
            f"{kinds[step].largest_strength:g}. Got {strength!r} instead."
        )


def _network(params, input_shape, has_pairs):
    """Return the configuration of the network: its encoder, output and final map.

    Parameters
    ----------
    params : dict
        Parameters of an estimator.
    input_shape : tuple of int
        Shape of one row: (n_features,), or (channels, height, width).
    has_pairs : bool
        True if codes are compared with those of views or of rows of the same class.
        ``final_map="auto"`` is then gentle, because tight groups of codes serve
        classifiers.

    Returns
    -------
    network : NetworkSpec
        The fields ``normalizes`` and ``shrinkage``, which say how codes are normalised,
        have their defaults.

    Raises
    ------
    ValueError
        If the encoder does not suit the rows or the output layer, or
        "hidden_layer_sizes" is invalid.
    """
    is_image, encoder = len(input_shape) > 1, params["encoder"]
    if isinstance(encoder, str) and encoder == "auto":
        encoder = "conv" if is_image else "mlp"
    if isinstance(encoder, str) and encoder == "conv" and not is_image:
        raise ValueError(
            "encoder='conv' needs images. Got rows of a table instead; pass a 4-D "
            "array or set 'image_shape'."
        )
    if params["output_layer"] == "features" and encoder == "mlp":
        raise ValueError(
            "output_layer='features' needs encoder='conv', whose features are maps of "
            "an image, or one of your own. Got 'mlp' instead, whose features are its "
            "inputs; use output_layer='hidden'."
        )
    is_own = not isinstance(encoder, str)
    final_map = params["final_map"]
    if final_map == "auto":
        final_map = "gentle" if has_pairs else "close"
    return _core.config.NetworkSpec(
        encoder=encoder,
        sizes=() if is_own else _sizes(params["hidden_layer_sizes"], encoder),
        input_shape=input_shape,
        n_components=int(params["n_components"]),
        output_layer=params["output_layer"],
        final_map=final_map,
    )


def _sizes(asked, encoder):
    """Return the sizes of the hidden layers of a built-in encoder, a tuple of int.

    Widths of the layers of "mlp", or numbers of channels of the stages of "conv".

    Parameters
    ----------
    asked : "auto", int or array-like of int
        The "hidden_layer_sizes" parameter.
    encoder : {"mlp", "conv"}
        Name of the encoder, on which the sizes of "auto" depend.

    Raises
    ------
    ValueError
        If ``asked`` is not "auto" and holds anything but integers above 0.
    """
    if isinstance(asked, str):
        return _core.encoders.SIZES.get(encoder, ())
    sizes = tuple(np.atleast_1d(np.asarray(asked, dtype=object)).tolist())
    if not all(map(is_count, sizes)):
        raise ValueError(
            f"The 'hidden_layer_sizes' parameter must hold integers above 0. Got "
            f"{asked!r} instead."
        )
    return sizes


def with_encoder(model, encoder):
    """Return a model configuration that trains a fitted encoder further.

    Training then goes on with the user's module as it was fitted, and not with the
    untrained one in the parameters.

    Parameters
    ----------
    model : ModelSpec
        The model that the parameters ask for.
    encoder : str or nn.Module
        Encoder of the fitted model.  A str, the name of a built-in encoder, leaves
        ``model`` as it is.

    Returns
    -------
    model : ModelSpec
        A copy of ``model`` with this module as its encoder, or ``model`` itself.
    """
    if isinstance(encoder, str):
        return model
    return replace(model, network=replace(model.network, encoder=encoder))


# Parameter that sets a field of the configuration, for fields of another name.
_PARAMETERS = {
    "sizes": "hidden_layer_sizes",
    "augmentations": "views",
    "strength": "views",
    "sides": "views",
    "n_views": "views",
    "n_neighbors": "views",
    "by_class": "supervised",
    "bound": "objective",
}
# Fields that no parameter sets: they follow from other fields.
_DERIVED = {"n_noise_draws", "shrinkage", "normalizes"}


def differences(asked, fitted, names=()):
    """Return the names of the parameters that make two models different.

    ``partial_fit`` raises an error with these names if a parameter was changed.

    Parameters
    ----------
    asked, fitted : ModelSpec
        The model that the parameters ask for now, and the fitted one.
    names : dict of str to str
        Maps fields of ``ModelSpec`` to the parameter that sets them, where this
        estimator has another name for it than others.

    Returns
    -------
    names : list of str
        Names of parameters, sorted; empty if the models are the same.
    """
    names = _PARAMETERS | dict(names)
    different = _differing(asked, fitted) - {"network", "pairs"}
    different |= _differing(asked.network, fitted.network)
    different |= _differing(asked.pairs, fitted.pairs)
    return sorted({names.get(name, name) for name in different - _DERIVED})


def _differing(one, other):
    """Return the set of names of the fields in which two dataclass instances differ.

    ``one`` and ``other`` are of one class.  Floats that differ only by rounding count
    as equal.
    """
    pairs = (
        (f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
    )
    return {name for name, a, b in pairs if a != b and not _is_close(a, b)}


def _is_close(a, b):
    return isinstance(a, float) and isinstance(b, float) and math.isclose(a, b)
