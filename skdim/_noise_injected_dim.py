"""The noise-injected Deep InfoMax transformer."""

import math
from dataclasses import replace
from numbers import Real

from ._parameters import CommonParameters, common_constraints, not_negative
from ._sklearn import Constraints, HasMethods, Interval, StrOptions
from ._utils.distributions import DISTRIBUTIONS, Distribution

__all__ = ["NoiseInjectedDIM"]

# Found by measurement: docs/defaults.md.
_WIDEST_NOISE_OF_IMAGES = 1.0
_N_DRAWS_BESIDE_CONV = 4  # of the noise: a small part of a step's time there

# The bound is called saturated within this share of the most it can report, if the
# channel could carry more.
_SATURATED = 0.95
# Above this many times the capacity it is no accident of sampling.
_IMPLAUSIBLE = 1.1


def _constraints():
    """Return what each parameter may be; names come from the tables of the core."""
    from ._core.bounds import BOUNDS
    from ._core.channels import CHANNELS
    from ._critics import CRITICS

    auto = StrOptions({"auto"})
    return common_constraints() | {
        "output_distribution": [StrOptions(set(DISTRIBUTIONS)), HasMethods("cdf")],
        "noise_distribution": [StrOptions({"auto", *CHANNELS})],
        "noise_scale": [auto, Interval(Real, 1e-6, 1e6, closed="both")],
        "objective": [StrOptions(set(BOUNDS))],
        "agreement_weight": [auto, Interval(Real, 0, 1, closed="both")],
        "sliced_weight": [auto, not_negative()],
        "whiten": [StrOptions({"auto", "received"}), "boolean"],
        "critic": [StrOptions(set(CRITICS))],
    }


class NoiseInjectedDIM(CommonParameters):
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

    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Distribution of the components of the codes, which are independent: N(0, 1),
        U[0, 1], or any continuous distribution of ``scipy.stats`` with its parameters,
        such as ``scipy.stats.expon()``, by the probability integral transform.

    noise_distribution : {"auto", "normal", "uniform"}, default="auto"
        Distribution of the noise, and with it of the codes that are best to send: a
        law other than this one is reached from it by the probability integral
        transform.  "auto" is "normal", but "uniform" for the uniform law without
        views, as long as a batch can measure its information (up to 4 components at
        the default ``batch_size``).

    noise_scale : "auto" or float, default="auto"
        Standard deviation of the normal noise, or half-width of the uniform noise, in
        units of the code that is sent, from 1e-6 to 1e6.  "auto" gives the channel the
        capacity ``log(batch_size)``, which is what a batch can measure, or for normal
        noise on tables without views half of it; but uniform noise is no wider than
        0.2, because the best codes under wider noise are not uniform, and normal noise
        on codes of images no wider than 1.  More noise leaves less detail in the codes.

    objective : {"infonce", "dv", "nwj", "jsd", "smile"}, default="infonce"
        Lower bound on the mutual information that is maximised.

    agreement_weight : "auto" or float, default="auto"
        Share of the Barber-Agakov bound in what is maximised, from 0 to 1; the rest is
        ``objective``.  It rewards views that agree, not that rows can be told apart.
        Above 0 it needs views or ``supervised``, and ``critic="channel"``.  "auto" is
        ``16 / n_components``, but from 0.25 to 0.95, for images with views and
        ``critic="channel"``, and 0 otherwise.

    sliced_weight : "auto" or float, default="auto"
        Weight of the sliced capacity: what random one-dimensional slices of the codes
        lack to their capacity, on average and in nats, and a sixteenth of what their
        norms lack, is taken off the information.  "auto" is 0 for tables; for images,
        48 (less in batches of fewer than 256 rows), rising in batches of 512 to 128 for
        16 components and 256 for 64.

    local_weight : float, default=0.0
        Weight of local information: that between the noisy code and the features of
        the encoder at each position of an image, or of each group of columns that
        stand together in a table, averaged over positions [2]_.  For images it needs
        an encoder whose features keep their positions, such as "conv".

    whiten : {"auto", "received"} or bool, default="auto"
        True holds codes to zero correlation, in each batch and at the end, as far as so
        many rows tell it from chance, and not only to mean 0 and variance 1 by
        component.  The law asks for it, and the match
        is closer.  But directions that the views have nearly erased are blown up to
        the size of all others, which on tables costs classifiers accuracy.
        "received" whitens at the end what the receiver sees, codes with their noise,
        so that directions below the noise stay small.  "auto" is "received" for
        tables with views, and True for images and without views.

    critic : {"channel", "separable", "bilinear", "concatenated"}, default="channel"
        How a code and a noisy code are compared.  "channel" is the density of the
        noise itself, the best critic there is, and nothing to learn; with views it
        takes slope and residual variance of each component from the batch.
        "separable" learns two embeddings and takes their inner product, "bilinear" a
        matrix between the two codes, "concatenated" a perceptron on both.

    encoder : {"auto", "mlp", "conv"}, nn.Module or callable, default="auto"
        "auto" is "conv" for images and "mlp" for tables.  A module is copied, and
        trained from the weights it has.  A callable is called as
        ``encoder(input_shape, n_components)`` and returns a module; ``input_shape`` is
        ``(n_features,)`` or ``(channels, height, width)``.  A module receives scaled
        float32 batches of that shape, also at ``transform``, and returns
        ``(n_samples, n_components)``.  If it has three parts named ``features``,
        ``hidden`` and ``code``, applied in this order, they serve ``output_layer`` and
        ``local_weight`` as those of the built-in encoders do.

    hidden_layer_sizes : "auto", int or array-like of int, default="auto"
        Widths of the hidden layers of "mlp", or numbers of channels of the stages of
        "conv".  "auto" is ``(256,)`` and ``(32, 64, 128)``.

    image_shape : tuple of int, default=None
        ``(height, width)``, ``(height, width, channels)`` or ``(channels, height,
        width)`` of images that come as flat rows.  Channels are the last axis unless
        only the first one is as short as 4.

    output_layer : {"code", "hidden", "features"}, default="code"
        What ``transform`` returns: the code, which follows the law, or a layer below
        it, standardised by column, which follows none but may serve classifiers: the
        "hidden" layer before the code or, of "conv", the flattened "features" of its
        last convolution.

    views : "auto", None, str, callable or list of these, default="auto"
        How pairs are made from a row: two codes are compared that differ by this, so
        that the codes forget it.  For tables "jitter" (normal noise), "marginal"
        (cells replaced by others of their column) and "neighbors" (cells replaced by
        those of near rows); for images "crop", "shift", "affine", "flip", "color",
        "blur" and "erase".  A callable is called as ``views(inputs, generator)`` with
        a batch of scaled inputs and a ``torch.Generator``, and returns an altered
        batch of the same shape.  A list is applied in its order.  "auto" is
        "neighbors" for tables, "affine" for images of one channel, "crop", "flip" and
        "color" for those of three or four, and "crop" for others.  None compares a
        code with itself: a closer match, unless rows are few for so many components,
        and features that keep what tells rows apart instead of what they share.

    view_strength : "auto" or float, default="auto"
        Of all named views: a standard deviation ("jitter"), the probability that a
        cell or image is changed ("marginal", "neighbors", "flip"), the largest share
        of the image ("crop", "shift", "erase", "blur"; of these two kinds at most 1),
        or the size of the change where 1 is as much as makes sense.  "auto" is each
        one's own.

    view_sides : {"both", "one"}, default="both"
        Whether the row that is sent through the noise is altered too.  "one" gives a
        closer match on clean data, "both" gives better features.

    n_views : int, default=1
        Number of views that are compared with what was sent.

    n_neighbors : int, default=5
        Number of near rows that "neighbors" draws from, and partners of the same class
        in a table if ``supervised``.

    supervised : bool, default=False
        Whether ``fit`` uses ``y``: both sides of a pair are then rows of the same
        class (in tables, near ones).  -1 marks unlabelled rows; among classes that
        are text, the number -1 in an array of dtype object.

    batch_size : "auto" or int, default="auto"
        Rows per step.  "auto" is 256, or all rows if there are fewer.  InfoNCE can
        report at most ``log(batch_size)`` nats.

    max_iter : "auto" or int, default="auto"
        Number of epochs.  "auto" is as many as make 400 steps.

    learning_rate_init : float, default=6e-3
        Peak learning rate of AdamW, under a one-cycle schedule over ``max_iter``.

    alpha : float, default=0.5
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

    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the fit before, for ``max_iter``
        more epochs; curves are continued.  Inputs are scaled by the new data.

    input_scaling : "auto" or tuple of (mean, scale), default="auto"
        What scaled inputs are made by: numbers, or arrays of one number for each
        column of a table or channel of images; a scale of 0 ignores the column.
        "auto" takes those of the data, in ``partial_fit`` those of the first call.

    device : str, default="auto"
        "auto" uses CUDA if there is any, otherwise the CPU.

    random_state : int, RandomState instance or None, default=None
        Fixes weights, batches and noise; an int makes ``fit`` reproducible.

    verbose : bool or int, default=0
        1 shows a progress bar if tqdm or rich is installed, and prints the information
        of each epoch if not; above 1, always prints.

    Attributes
    ----------
    output_distribution_ : {"normal", "uniform"} or scipy.stats distribution, or None
        Distribution that ``transform`` was trained to return; None for the hidden
        layer, which follows none.

    capacity_ : float
        The most information, in nats, that the channel can carry.

    noise_scale_ : float
        Scale of the noise used.

    agreement_weight_ : float
        Share of the agreement bound used.

    sliced_weight_ : float
        Weight of the sliced capacity used.

    batch_size_ : int
        Number of rows used per step.

    information_ : float
        Information, in nats, of the training data after training, estimated like
        ``score`` on at most 20 batches.

    information_curve_ : list of float of length n_iter_
        Mean of the bound, in nats, over the batches of each epoch.

    match_curve_ : list of float of length n_iter_
        Mean, over the batches of each epoch, of what random slices of the codes lack
        to their capacity, in nats; 0 is a perfect match to the law.

    validation_information_curve_ : list of float
        The bound on held-out rows after each epoch.  Only with ``early_stopping``.

    n_iter_ : int
        Number of epochs trained; with ``warm_start`` and ``partial_fit``, in all.

    n_samples_seen_ : int
        Number of rows of ``fit``, and of the calls of ``partial_fit`` since.

    n_features_in_ : int
        Number of features seen in ``fit``; of an image, height x width x channels.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    Warns
    -----
    ConvergenceWarning
        If the bound sits at the most it can report and nothing else holds the codes to
        their law, if it comes out above the capacity, if ``tol`` was not met within
        ``max_iter``, if training was interrupted, or if it diverged and was taken up
        again.

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
    uniform law before the last step, the normal distribution function), as ``whiten``
    says.  With views or ``supervised``, norms of codes that vary more than the law's
    are then drawn in by a power of them.

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
        noise_distribution="auto",
        noise_scale="auto",
        objective="infonce",
        agreement_weight="auto",
        sliced_weight="auto",
        local_weight=0.0,
        whiten="auto",
        critic="channel",
        encoder="auto",
        hidden_layer_sizes="auto",
        image_shape=None,
        output_layer="code",
        views="auto",
        view_strength="auto",
        view_sides="both",
        n_views=1,
        n_neighbors=5,
        supervised=False,
        batch_size="auto",
        max_iter="auto",
        learning_rate_init=6e-3,
        alpha=0.5,
        tol=None,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        input_scaling="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.output_distribution = output_distribution
        self.noise_distribution = noise_distribution
        self.noise_scale = noise_scale
        self.objective = objective
        self.agreement_weight = agreement_weight
        self.sliced_weight = sliced_weight
        self.local_weight = local_weight
        self.whiten = whiten
        self.critic = critic
        self.encoder = encoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.output_layer = output_layer
        self.views = views
        self.view_strength = view_strength
        self.view_sides = view_sides
        self.n_views = n_views
        self.n_neighbors = n_neighbors
        self.supervised = supervised
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.input_scaling = input_scaling
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _parameter_constraints = Constraints(_constraints)

    @property
    def _law(self):
        return self.output_distribution

    def _resolve_model(self, batch_size, row_shape, channels_first):
        from ._core.channels import CHANNELS
        from ._spec import ModelSpec

        network = self._resolve_network(row_shape, channels_first)
        views = self._resolve_views(network)
        noise_distribution, noise_scale = self._resolve_noise(
            batch_size, views, network.is_image
        )
        channel = CHANNELS[noise_distribution](noise_scale)
        whiten, shrinkage = self._resolve_whiten(network, views, channel)
        model = ModelSpec(
            network=replace(
                network,
                whiten=whiten,
                shrinkage=shrinkage,
                # Without pairs, norms of rows trained on say too little of others.
                draws_in=views.makes_pairs(self.supervised),
            ),
            noise_distribution=noise_distribution,
            noise_scale=noise_scale,
            critic=self.critic,
            objective=self.objective,
            views=views,
            is_supervised=bool(self.supervised),
            agreement_weight=self._resolve_agreement_weight(network, views),
            sliced_weight=self._resolve_sliced_weight(network, batch_size),
            local_weight=float(self.local_weight),
            n_draws=_N_DRAWS_BESIDE_CONV if network.encoder == "conv" else 1,
        )
        self._check_agreement(model)
        return model

    def _resolve_noise(self, batch_size, views, is_image):
        """Return the distribution of the noise and its scale."""
        from ._core.channels import CHANNELS

        Distribution(self.output_distribution).check_copies()  # raises if it is none
        name, law = self.noise_distribution, self.output_distribution
        if name == "auto":
            box = CHANNELS["uniform"].for_batch(batch_size, self.n_components)
            # Above ln(batch), the box is at its widest and still carries too much.
            fits = box.noise_scale < box.widest_noise and not views.steps
            is_uniform = isinstance(law, str) and law == "uniform"
            name = "uniform" if is_uniform and fits else "normal"
        if self.noise_scale != "auto":
            return name, float(self.noise_scale)
        # Without views all details of a row tell it from others; wider noise leaves
        # those that carry over to rows not seen.
        is_alone = not (is_image or views.makes_pairs(self.supervised))
        share = 0.5 if is_alone and name == "normal" else 1.0
        channel = CHANNELS[name].for_batch(batch_size, self.n_components, share)
        widest = _WIDEST_NOISE_OF_IMAGES if is_image else math.inf
        return name, min(channel.noise_scale, widest)

    def _resolve_agreement_weight(self, network, views):
        if self.agreement_weight != "auto":
            return float(self.agreement_weight)
        if not (network.is_image and views.steps and self.critic == "channel"):
            return 0.0
        return min(0.95, 16 / self._bounded_n_components())

    def _resolve_sliced_weight(self, network, batch_size):
        if self.sliced_weight != "auto":
            return float(self.sliced_weight)
        if not network.is_image:
            return 0.0
        # The smaller the batch, the more of what slices seem to lack is chance.
        fullness = min(1, batch_size / 512)
        many = 32 * math.sqrt(self._bounded_n_components()) * fullness**3
        return max(48 * min(1, 2 * fullness), many)

    def _bounded_n_components(self):
        """Return the number of components that weights for images go by."""
        return min(max(self.n_components, 16), 64)

    def _check_agreement(self, model):
        """Raise where the agreement of views is asked for and there is none."""
        is_asked = model.agreement_weight
        if is_asked and not model.has_pairs:
            raise ValueError(
                "agreement_weight above 0 needs views or supervised=True. Got "
                "views=None instead; pass views, or agreement_weight=0."
            )
        if is_asked and model.critic != "channel":
            raise ValueError(
                f"agreement_weight above 0 needs critic='channel'. Got "
                f"{model.critic!r} instead."
            )

    def _resolve_whiten(self, network, views, channel):
        """Return whether batches are whitened, and how much the end is shrunk."""
        whiten = self.whiten
        if isinstance(whiten, str) and whiten == "auto":
            is_mixed = views.steps and not network.is_image
            whiten = "received" if is_mixed else True
        if isinstance(whiten, str):
            return False, channel.noise_share
        return bool(whiten), None

    def _fitted_attributes(self, config, result, before):
        model = config.model
        return super()._fitted_attributes(config, result, before) | {
            "noise_scale_": model.noise_scale,
            "agreement_weight_": model.agreement_weight,
            "sliced_weight_": model.sliced_weight,
            "capacity_": model.channel.capacity(model.network.n_components),
        }

    def _doubts(self, config, result):
        """Yield what speaks against the result."""
        ceiling = self._ceiling()
        yield from super()._doubts(config, result)
        is_held = self.sliced_weight_ > 0  # to the law, by other means than the bound
        if self.information_ > _SATURATED * ceiling < self.capacity_ and not is_held:
            yield (
                f"The information bound, {self.information_:.2f} nats, sits at the "
                f"most that a batch of {config.batch_size} rows can report, "
                f"{ceiling:.2f}, while the channel could carry {self.capacity_:.2f}: "
                f"the codes may stop short of the promised distribution; lower "
                f"'n_components', or raise 'noise_scale' or 'batch_size'."
            )
        elif self.information_ > _IMPLAUSIBLE * self.capacity_ + 0.1:
            yield (
                f"The information, {self.information_:.2f} nats, came out above the "
                f"capacity of the channel, {self.capacity_:.2f}: its estimate by "
                f"objective={self.objective!r} fails at so much; raise 'noise_scale', "
                f"or use objective='infonce'."
            )
