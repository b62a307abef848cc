"""The noise-injected Deep InfoMax transformer."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._base import BaseInfoMax, Interval, StrOptions, fit_context, is_count

__all__ = ["NoiseInjectedDIM"]

# Found by measurement: docs/defaults.md.
_BATCH_SIZE = 256
_STEPS = 500
_SIZES = {"mlp": (128, 128), "conv": (32, 64, 128)}

# The bound is called saturated within this share of the most it can report, if the
# channel could carry more.
_SATURATED = 0.95


class NoiseInjectedDIM(BaseInfoMax):
    """Learn features of a known distribution with noise-injected Deep InfoMax.

    An encoder is trained, without labels, to maximise the mutual information between
    its input and its code after noise has been added to the code.  The information
    that survives the noise has a ceiling, the capacity of the noisy channel, and only
    codes of one distribution reach it; so the codes approach that distribution, on
    unseen data too, while they keep what they can about the input [1]_ [2]_.

    Parameters
    ----------
    n_components : int, default=16
        Number of components of the code.

    output_distribution : {"normal", "uniform"}, default="normal"
        Distribution of the codes: N(0, I), or uniform on the unit cube.

    noise_scale : "auto" or float, default="auto"
        Standard deviation of the normal noise, or half-width of the uniform noise, in
        units of the code, from 1e-6 to 1e6.  "auto" gives the channel a capacity in
        proportion to ``log(batch_size)``, which is what a batch can measure: half of
        it for the normal law and all of it for the uniform law, where noise is no
        wider than 0.2 all the same, because the best codes under wider noise are not
        uniform.  More noise gives a closer match and less detail.

    objective : {"infonce"}, default="infonce"
        Lower bound on the mutual information that is maximised.

    critic : {"channel", "separable"}, default="channel"
        How a code and a noisy code are compared.  "channel" is the density of the
        noise itself, the best critic there is; "separable" learns two embeddings and
        takes their inner product.

    encoder : {"auto", "mlp", "conv"}, nn.Module or callable, default="auto"
        "auto" is "conv" for images and "mlp" for tables.  A module is copied, and
        trained from the weights it has.  A callable is called as
        ``encoder(input_shape, n_components)`` and returns a module; ``input_shape`` is
        ``(n_features,)`` or ``(channels, height, width)``.  A module receives scaled
        float32 batches of that shape, also at ``transform``, and returns
        ``(n_samples, n_components)``.

    hidden_layer_sizes : "auto", int or array-like of int, default="auto"
        Widths of the hidden layers of "mlp", or numbers of channels of the stages of
        "conv".  "auto" is ``(128, 128)`` and ``(32, 64, 128)``.

    image_shape : tuple of int, default=None
        ``(height, width)``, ``(height, width, channels)`` or ``(channels, height,
        width)`` of images that come as flat rows.  Channels are the last axis unless
        only the first one is as short as 4.

    views : callable, default=None
        Called as ``views(inputs, generator)`` with a batch of scaled inputs and a
        ``torch.Generator``; returns an altered batch of the same shape.  The code of
        the view is trained to tell which clean row it came from, so that the codes
        forget what the view changes.

    batch_size : "auto" or int, default="auto"
        Rows per step.  "auto" is 256, or all rows if there are fewer.  The bound can
        report at most ``log(batch_size)`` nats.

    max_iter : "auto" or int, default="auto"
        Number of epochs.  "auto" is as many as make 500 steps.

    learning_rate_init : float, default=3e-3
        Peak learning rate of AdamW, under a one-cycle schedule over ``max_iter``.

    alpha : float, default=2.0
        Weight decay, decoupled as in AdamW: each step shrinks the weights by the
        learning rate times ``alpha``.  A smoother encoder serves classifiers better.

    tol : float, default=None
        Stop when the information has not risen by more than ``tol`` nats for
        ``n_iter_no_change`` epochs.  None trains for ``max_iter`` epochs, which is
        what the schedule of the learning rate is made for; with ``early_stopping``,
        None means 0.

    n_iter_no_change : int, default=10
        Epochs without improvement before training stops.

    early_stopping : bool, default=False
        Hold out a part of the training data, watch the information there instead, and
        return to the best epoch at the end.

    validation_fraction : float, default=0.1
        Share of the training data to hold out, if ``early_stopping``.

    device : str, default="auto"
        "auto" uses CUDA if there is any, otherwise the CPU.

    random_state : int, RandomState instance or None, default=None
        Fixes weights, batches and noise; an int makes ``fit`` reproducible.

    verbose : bool or int, default=0
        If not 0, print the information of each epoch.

    Attributes
    ----------
    capacity_ : float
        The most information, in nats, that the channel can carry.

    noise_scale_ : float
        Scale of the noise used.

    batch_size_ : int
        Number of rows used per step.

    information_ : float
        Lower bound on the information, in nats, of the training data after training,
        estimated like ``score`` on at most 20 batches.

    information_curve_ : ndarray of shape (n_iter_,)
        Mean of the bound, in nats, over the batches of each epoch.

    validation_information_curve_ : ndarray of shape (n_iter_,)
        The bound on held-out rows after each epoch.  Only with ``early_stopping``.

    n_iter_ : int
        Number of epochs trained.

    n_features_in_ : int
        Number of features seen in ``fit``; of an image, height x width x channels.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    Warns
    -----
    ConvergenceWarning
        If the bound sits at the most it can report, if ``tol`` was not met within
        ``max_iter``, or if training was interrupted.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Matches each column on its own.
    sklearn.decomposition.PCA : With ``whiten=True``, matches mean and covariance.

    Notes
    -----
    Inputs are scaled inside, by the training data: tables column by column, with
    outliers bounded smoothly to 3 standard deviations; images by channel.  Constant
    columns are ignored.  Nothing of this touches X.

    After training, the statistics of every normalisation are computed again on all
    clean training rows, and the codes of the normal law are whitened (those of the
    uniform law before the last step, the normal distribution function); with a learned
    critic they are only scaled.

    References
    ----------
    .. [1] Butakov et al., "Efficient Distribution Matching of Representations via
       Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993.
    .. [2] Hjelm et al., "Learning deep representations by mutual information
       estimation and maximization", ICLR 2019, arXiv:1808.06670.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from skdim import NoiseInjectedDIM
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test = train_test_split(X, random_state=0)
    >>> dim = NoiseInjectedDIM(n_components=4, random_state=0).fit(X_train)
    >>> codes = dim.transform(X_test)
    >>> codes.shape
    (143, 4)
    >>> bool(abs(codes.mean()) < 0.1), bool(abs(codes.std() - 1) < 0.1)
    (True, True)
    >>> bool(0 < dim.score(X_test) < dim.capacity_)
    True
    """

    def __init__(
        self,
        n_components=16,
        *,
        output_distribution="normal",
        noise_scale="auto",
        objective="infonce",
        critic="channel",
        encoder="auto",
        hidden_layer_sizes="auto",
        image_shape=None,
        views=None,
        batch_size="auto",
        max_iter="auto",
        learning_rate_init=3e-3,
        alpha=2.0,
        tol=None,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.output_distribution = output_distribution
        self.noise_scale = noise_scale
        self.objective = objective
        self.critic = critic
        self.encoder = encoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.views = views
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _parameter_constraints(self):
        """What each parameter may be; names come from the tables of the core.

        A property, because the tables import torch and importing skdim must not.
        """
        from ._channels import CHANNELS
        from ._critics import CRITICS
        from ._encoders import ENCODERS
        from ._objectives import OBJECTIVES

        positive = Interval(Real, 0, None, closed="neither")
        not_negative = Interval(Real, 0, None, closed="left")
        count = Interval(Integral, 1, None, closed="left")
        auto = StrOptions({"auto"})
        return {
            "n_components": [count],
            "output_distribution": [StrOptions(set(CHANNELS))],
            "noise_scale": [auto, Interval(Real, 1e-6, 1e6, closed="both")],
            "objective": [StrOptions(set(OBJECTIVES))],
            "critic": [StrOptions(set(CRITICS))],
            "encoder": [StrOptions({"auto", *ENCODERS}), callable],
            "hidden_layer_sizes": [auto, count, "array-like"],
            "image_shape": [None, "array-like"],
            "views": [None, callable],
            "batch_size": [auto, Interval(Integral, 2, None, closed="left")],
            "max_iter": [auto, count],
            "learning_rate_init": [positive],
            "alpha": [not_negative],
            "tol": [None, not_negative],
            "n_iter_no_change": [count],
            "early_stopping": ["boolean"],
            "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
            "device": [str],
            "random_state": ["random_state"],
            "verbose": ["verbose"],
        }

    @fit_context
    def fit(self, X, y=None):
        """Train the encoder on X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width, \
channels) or (n_samples, channels, height, width)
            At least two rows of a table, or images; float or uint8.
        y : None
            Ignored.

        Returns
        -------
        self : NoiseInjectedDIM
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is invalid, before any training; or if training
            diverges.  The estimator is then left as it was.
        """
        from ._trainer import train

        with self._unchanged_on_error():
            rows, image_shape = self._validate_rows(X, reset=True, ensure_min_samples=2)
            row_shape, channels_first = self._row_shape(image_shape, rows.shape[1])
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            rows, validation_rows = self._split(rows, seed)
            config = self._resolve(len(rows), row_shape, channels_first, seed)
            result = train(config, rows, validation_rows)
            self._set_fitted(config, result)
        self._warn(config, result)
        return self

    def _split(self, rows, seed):
        """Return training rows, and validation rows or None."""
        if not self.early_stopping:
            return rows, None
        n_validation = max(2, round(self.validation_fraction * len(rows)))
        if len(rows) - n_validation < 2:
            raise ValueError(
                f"early_stopping=True with validation_fraction="
                f"{self.validation_fraction} needs at least 2 rows to train on. Got "
                f"{len(rows)} rows in all; pass more rows or early_stopping=False."
            )
        order = np.random.default_rng(seed).permutation(len(rows))
        return rows[order[n_validation:]], rows[order[:n_validation]]

    def _resolve(self, n_rows, row_shape, channels_first, seed):
        """Return the configuration with every "auto" decided."""
        from ._model import ModelSpec
        from ._runtime import resolve_device
        from ._trainer import FitConfig

        batch_size = _BATCH_SIZE if self.batch_size == "auto" else self.batch_size
        batch_size = min(batch_size, n_rows)
        steps_per_epoch = n_rows // batch_size
        auto_iter = math.ceil(_STEPS / steps_per_epoch)
        model = ModelSpec(
            network=self._resolve_network(row_shape, channels_first),
            output_distribution=self.output_distribution,
            noise_scale=self._resolve_noise_scale(batch_size),
            critic=self.critic,
            objective=self.objective,
            view=self.views,
        )
        return FitConfig(
            model=model,
            batch_size=batch_size,
            max_iter=auto_iter if self.max_iter == "auto" else self.max_iter,
            learning_rate=self.learning_rate_init,
            weight_decay=self.alpha,
            tol=0.0 if self.early_stopping and self.tol is None else self.tol,
            n_iter_no_change=self.n_iter_no_change,
            seed=seed,
            device=resolve_device(self.device),
            verbose=bool(self.verbose),
        )

    def _resolve_noise_scale(self, batch_size):
        if self.noise_scale != "auto":
            return float(self.noise_scale)
        from ._channels import CHANNELS

        channel = CHANNELS[self.output_distribution]
        return channel.for_batch(batch_size, self.n_components).noise_scale

    def _resolve_network(self, row_shape, channels_first):
        from ._network import NetworkSpec

        is_image = len(row_shape) > 1
        encoder = self.encoder
        if isinstance(encoder, str) and encoder == "auto":
            encoder = "conv" if is_image else "mlp"
        if isinstance(encoder, str) and encoder == "conv" and not is_image:
            raise ValueError(
                "encoder='conv' needs images. Got rows of a table instead; pass a 4-D "
                "array or set 'image_shape'."
            )
        sizes = self._resolve_sizes(encoder) if isinstance(encoder, str) else ()
        return NetworkSpec(
            encoder, sizes, row_shape, channels_first, int(self.n_components)
        )

    def _resolve_sizes(self, encoder):
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):
            return _SIZES[encoder]
        sizes = tuple(np.atleast_1d(np.asarray(sizes, dtype=object)).tolist())
        if not all(map(is_count, sizes)):
            raise ValueError(
                f"The 'hidden_layer_sizes' parameter must hold integers above 0. Got "
                f"{self.hidden_layer_sizes!r} instead."
            )
        return sizes

    def _set_fitted(self, config, result):
        model = config.model
        channel = model.channel
        self.noise_scale_ = model.noise_scale
        self.capacity_ = channel.capacity(self.n_components)
        self.batch_size_ = config.batch_size
        self.information_ = result.information
        self.information_curve_ = np.array(result.information_curve)
        self.n_iter_ = len(result.information_curve)
        vars(self).pop("validation_information_curve_", None)
        if self.early_stopping:
            curve = np.array(result.validation_curve)
            self.validation_information_curve_ = curve
        self._publish(config, result)

    def _warn(self, config, result):
        from ._objectives import OBJECTIVES

        ceiling = OBJECTIVES[self.objective].ceiling(config.batch_size)
        if result.interrupted:
            self._warn_of(
                f"Training was interrupted after {self.n_iter_} of {config.max_iter} "
                f"epochs; the estimator keeps what it had learned by then."
            )
        elif self.tol is not None and not result.stopped:
            self._warn_of(
                f"Training reached max_iter={config.max_iter} epochs before the "
                f"information stopped rising by more than tol={self.tol} nats for "
                f"{self.n_iter_no_change} epochs; raise 'max_iter' or 'tol'."
            )
        if self.information_ > _SATURATED * ceiling < self.capacity_:
            self._warn_of(
                f"The information bound, {self.information_:.2f} nats, sits at the "
                f"most that a batch of {config.batch_size} rows can report, "
                f"{ceiling:.2f}, while the channel could carry {self.capacity_:.2f}: "
                f"the codes may stop short of the promised distribution; lower "
                f"'n_components', or raise 'noise_scale' or 'batch_size'."
            )

    @staticmethod
    def _warn_of(message):
        warnings.warn(message, ConvergenceWarning, stacklevel=5)
