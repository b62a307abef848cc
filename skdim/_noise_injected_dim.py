"""The noise-injected Deep InfoMax transformer."""

from numbers import Real

from . import _core, _resolve
from ._base import BaseInfoMax
from ._sklearn import HasMethods, Interval, NameIn, StrOptions, weight
from ._utils.distributions import DISTRIBUTIONS

__all__ = ["NoiseInjectedDIM"]

# The bound counts as saturated above this share of its ceiling, if the channel could
# carry more.
_SATURATED = 0.95
# An estimate above this multiple of the capacity is no accident of sampling.
_IMPLAUSIBLE = 1.1


class NoiseInjectedDIM(BaseInfoMax):
    """Learn features of a known distribution with noise-injected Deep InfoMax.

    An encoder is trained, without labels, to maximise the mutual information between
    its input and its code after noise has been added to the code.  The information
    that survives the noise is at most the capacity of this noisy channel, and only
    codes of one distribution reach the capacity.  So codes approach that distribution,
    on held-out data too, while they keep as much as they can about the input [1]_ [2]_.

    Parameters
    ----------
    n_components : int, default=16
        Number of components of the code.

    output_distribution : {"normal", "uniform"} or scipy.stats distribution, \
default="normal"
        Distribution that every component of the codes is to follow, independently of
        the others: N(0, 1), U[0, 1], or any continuous distribution of ``scipy.stats``
        with its parameters, such as ``scipy.stats.expon()``.

    views : Views, "auto", None, str, callable or list, default="auto"
        How views, randomly changed copies of a row, are made in training.  A noisy code
        is compared with the code of another view of its row, so that codes forget what
        differs between views.  A name, callable or list ``v`` means ``Views(v)``; pass
        ``Views()`` itself to search over its parameters, as ``views__strength``; see
        there for the names.  "auto" is "neighbors" for tables, "affine" for images of
        one channel, "crop", "flip" and "color" for images of three or four channels,
        and "crop" for others.  None compares a noisy code with the code of the same
        row, unchanged: the match to the distribution is then closer, unless there are
        too few rows for the number of components, and codes keep what tells rows apart
        instead of what similar rows share.

    supervised : bool, default=False
        True makes ``fit`` use ``y``: each training pair is then two rows of the same
        class; in tables, two near neighbours.  ``views`` still apply: both rows are
        changed into views, unless ``views`` is None.  -1 in ``y`` marks unlabelled
        rows, which are paired with themselves; among classes that are text, use the
        number -1 in an array of dtype object.

    encoder : {"auto", "mlp", "conv"}, nn.Module or callable, default="auto"
        "auto" is "conv" for images and "mlp" for tables.  A module is copied, and
        trained from the weights it has.  A callable is called as
        ``encoder(input_shape, n_components)`` and returns a module; ``input_shape`` is
        ``(n_features,)`` or ``(channels, height, width)``.  A module receives scaled
        float32 batches of shape ``(n_samples, *input_shape)`` and returns a tensor of
        shape ``(n_samples, n_components)``.  Name its submodules ``features``,
        ``hidden`` and ``code``, applied in this order, to use ``output_layer`` with it.

    hidden_layer_sizes : "auto", int or array-like of int, default="auto"
        Widths of the hidden layers of "mlp", or numbers of channels of the stages of
        "conv".  "auto" is ``(256,)`` for "mlp" and ``(32, 64, 128)`` for "conv".

    output_layer : {"code", "hidden", "features"}, default="code"
        What ``transform`` returns.  "code" follows ``output_distribution``.  The other
        layers follow no known distribution, but may serve classifiers better; their
        outputs are standardised by column.  "hidden" is the layer before the code.
        "features" is the flattened last convolution of "conv".

    final_map : {"auto", "close", "gentle", "linear"}, default="auto"
        Map that brings codes to their distribution when training has ended.  "close"
        comes as close as the training rows allow.  "gentle" stops earlier: groups of
        similar codes stay easier to separate by a linear model.  "linear" whitens
        codes, and no more.  All are invertible.  "auto" is "gentle" with views or
        ``supervised=True``, and "close" otherwise.  Not used if ``output_layer`` is not
        "code".

    image_shape : tuple of int, default=None
        ``(height, width)``, ``(height, width, channels)`` or ``(channels, height,
        width)`` of images that come as flat rows.  Of three numbers the last one counts
        the channels, unless it is above 4 and the first one is not.  None takes flat
        rows as rows of a table.

    max_iter : "auto" or int, default="auto"
        Number of epochs.  "auto" takes as many as make about 400 training steps.

    batch_size : "auto" or int, default="auto"
        Rows per training step.  "auto" is 256, or all rows if there are fewer.  InfoNCE
        can report at most ``log(batch_size)`` nats.

    learning_rate_init : float, default=6e-3
        Peak learning rate of AdamW.  It rises and falls once over ``max_iter`` (a
        one-cycle schedule).

    weight_decay : float, default=0.5
        Decoupled weight decay of AdamW: each step shrinks the weights of the encoder by
        the share "learning rate times ``weight_decay``".  More decay makes the encoder
        smoother, so that classifiers do better on its codes.

    early_stopping : bool, default=False
        True holds out some training rows and measures their information (see ``score``)
        after every epoch.  Training is shorter if this information no longer rises.  If
        it was 0.05 nats higher in an earlier epoch, the weights of the best epoch are
        kept.  The looks take time: most on small tables, where they are longer than an
        epoch.

    validation_fraction : float, default=0.1
        Share of the training rows to hold out if ``early_stopping`` is True.

    n_iter_no_change : int, default=10
        Number of epochs without a rise of the information on held-out rows after which
        training ends, if ``early_stopping`` is True.  Only epochs of the second half of
        ``max_iter`` count, and the learning rate then falls to 0 in half of the epochs
        that were left.

    warm_start : bool, default=False
        True makes ``fit`` go on from the weights of the previous fit, for ``max_iter``
        more epochs; curves are continued.  Inputs are scaled by the new data.

    input_scaling : "auto" or tuple of (mean, scale), default="auto"
        Mean and scale to standardise inputs by: numbers, or arrays of one number for
        each column of a table or channel of images.  A column or channel of scale 0 is
        ignored.  "auto" takes the mean and the standard deviation of the training data,
        in ``partial_fit`` of the rows of the first call.

    device : str, default="auto"
        Device of torch that computes.  "auto" is CUDA if there is any, else the CPU.

    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, batches, views and noise; an int makes ``fit``
        reproducible.

    verbose : bool or int, default=0
        0 shows nothing.  1 shows a progress bar if tqdm or rich is installed, and
        otherwise prints the information of each epoch.  2 or more always prints.

    noise_distribution : {"normal", "uniform"}, default="normal"
        Distribution of the noise.  Under normal noise codes are trained to follow
        N(0, 1), under uniform noise U[0, 1].  The probability integral transform then
        maps them to ``output_distribution``.

    noise_scale : "auto" or float, default="auto"
        Standard deviation of the normal noise, or half-width of the uniform noise, from
        1e-6 to 1e6, for codes that follow N(0, 1) or U[0, 1].  More noise leaves less
        detail in the codes.  "auto" gives the channel the capacity ``log(batch_size)``
        nats, which is the most that InfoNCE can measure in a batch.  Under normal noise
        it is half of that for tables without views or classes.  A scale chosen by
        "auto" is at most 1 for images, and at most 0.2 for uniform noise.

    objective : {"infonce", "dv", "nwj", "jsd", "smile"}, default="infonce"
        What training maximises: a bound on the mutual information between the noisy
        code of a row and the code of a view of this row (without views, the code of the
        row itself).  The names stand for InfoNCE, Donsker-Varadhan,
        Nguyen-Wainwright-Jordan, Jensen-Shannon and SMILE; "smile" trains as "jsd"
        does, and differs in the information that it reports.

    agreement_weight : "auto" or float, default="auto"
        Share, from 0 to 1, of the Barber-Agakov bound in what training maximises; the
        rest is the bound named by ``objective``.  The Barber-Agakov bound rewards only
        that the views of a row have similar codes; it does not reward that rows can be
        told apart.  A weight above 0 needs views or ``supervised=True``, and
        ``critic="channel"``.  "auto" is ``16 / n_components``, clipped to [0.25, 0.95],
        for images that meet these conditions, and 0 otherwise.

    sliced_weight : "auto" or float, default="auto"
        Weight of a penalty that is subtracted from the objective: the mean
        Kullback-Leibler divergence, in nats, of random one-dimensional projections
        ("slices") of the codes from N(0, 1), plus 1/16 of the divergence of the norms
        of codes from those of N(0, I).  Codes are taken before they are mapped to
        U[0, 1] or ``output_distribution``.  "auto" is 0 for tables.  For images it is
        ``max(48 * min(1, B / 256), 32 * sqrt(d) * min(1, B / 512)**3)``, where ``B`` is
        the batch size and ``d`` is ``n_components`` clipped to [16, 64].

    critic : {"channel", "separable", "bilinear", "concatenated"}, default="channel"
        The function that scores how well a code and a noisy code belong together, for
        the bound.  "channel" is the log density ratio ``log p(y | u) / p(y)`` of a
        noisy code ``y`` and a code ``u``, computed from the distribution of the noise.
        It has nothing to learn, except one number under uniform noise with views or
        classes.  "separable" learns two embeddings and takes their inner product,
        "bilinear" learns a matrix between the two codes, and "concatenated" learns a
        perceptron on both.

    Attributes
    ----------
    output_distribution_ : {"normal", "uniform"} or scipy.stats distribution, or None
        Distribution of what ``transform`` returns; None if ``output_layer`` is not
        "code".

    capacity_ : float
        Capacity of the channel: the largest mutual information, in nats, that codes and
        noisy codes can have.

    noise_scale_ : float
        Scale of the noise that was used.

    agreement_weight_ : float
        Share of the Barber-Agakov bound that was used.

    sliced_weight_ : float
        Weight of the penalty on slices that was used.

    batch_size_ : int
        Number of rows used per training step.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance of the standardised inputs that each component explains,
        by linear regression on training rows.  ``fit`` orders components by it.  Only
        if ``output_layer`` is "code".

    loadings_ : ndarray of shape (n_components, n_features_in_)
        Correlation of each component, before it is mapped to
        ``output_distribution``, with each column of the training rows.  The largest of
        each component is positive.  Only for tables, and if ``output_layer`` is "code".

    information_ : float
        Mutual information, in nats, of the trained model on training rows, estimated as
        by ``score`` but on at most 20 batches.

    information_curve_ : list of float of length n_iter_
        Estimated mutual information, in nats, averaged over the training batches of
        each epoch.

    match_curve_ : list of float of length n_iter_
        Kullback-Leibler divergence, in nats, of random slices of the codes from
        N(0, 1), averaged over the training batches of each epoch; 0 is a perfect match.
        Codes are taken before they are mapped to U[0, 1] or ``output_distribution``,
        and both distributions are smoothed by normal noise before they are compared.

    validation_information_curve_ : list of float
        Mutual information, in nats, on held-out rows after each epoch, estimated as by
        ``score``.  Only with ``early_stopping``.

    n_iter_ : int
        Number of epochs trained; with ``warm_start`` and ``partial_fit``, the sum over
        all calls.

    n_samples_seen_ : int
        Number of rows of the last ``fit`` and of all calls of ``partial_fit`` since.

    n_features_in_ : int
        Number of features seen in ``fit``; for images, height x width x channels.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    Warns
    -----
    ConvergenceWarning
        If the estimated information is at the most that a batch can report, although
        the capacity is higher, and ``sliced_weight_`` is 0: codes may then not follow
        their distribution.  If the estimate is above the capacity.  If there were fewer
        than 5 training rows for each component.  If training was interrupted.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Matches each column on its own.
    sklearn.decomposition.PCA : With ``whiten=True``, matches mean and covariance.
    DeepInfoMax : Makes codes follow a prior by an adversary instead of noise.

    Notes
    -----
    The estimator standardises inputs itself, by the training data: tables by column,
    where outliers are bounded smoothly by 3 standard deviations, and images by channel.
    Constant columns are ignored.  X is not changed.

    After training, the means and variances that normalise codes are computed again,
    from all training rows without views, and codes are whitened.  In tables with views,
    the noisy codes are whitened instead, so that code directions that hardly survive
    the views are not blown up.  The final map then brings codes to their distribution.
    It is fitted to the codes of at most 20,000 training rows, and keeps what a code
    says about its row, because it is invertible.  ``score`` and ``information_`` are
    those of the codes before this map.

    N(0, I) does not change if codes are rotated.  So the last rotation is chosen to
    make components readable: the first explains the most of the inputs, and so on.

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
        views="auto",
        supervised=False,
        encoder="auto",
        hidden_layer_sizes="auto",
        output_layer="code",
        final_map="auto",
        image_shape=None,
        max_iter="auto",
        batch_size="auto",
        learning_rate_init=6e-3,
        weight_decay=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        input_scaling="auto",
        device="auto",
        random_state=None,
        verbose=0,
        noise_distribution="normal",
        noise_scale="auto",
        objective="infonce",
        agreement_weight="auto",
        sliced_weight="auto",
        critic="channel",
    ):
        self.n_components = n_components
        self.output_distribution = output_distribution
        self.views = views
        self.supervised = supervised
        self.encoder = encoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.output_layer = output_layer
        self.final_map = final_map
        self.image_shape = image_shape
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.input_scaling = input_scaling
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.noise_distribution = noise_distribution
        self.noise_scale = noise_scale
        self.objective = objective
        self.agreement_weight = agreement_weight
        self.sliced_weight = sliced_weight
        self.critic = critic

    _parameter_constraints = BaseInfoMax._parameter_constraints | {
        "output_distribution": [StrOptions(set(DISTRIBUTIONS)), HasMethods("cdf")],
        "noise_distribution": [NameIn("channels", "CHANNELS")],
        "noise_scale": [StrOptions({"auto"}), Interval(Real, 1e-6, 1e6, closed="both")],
        "agreement_weight": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "sliced_weight": [StrOptions({"auto"}), weight()],
        "critic": [NameIn("critics", "CRITICS", "channel")],
    }

    def _distribution(self):
        return self.output_distribution

    def _model_spec(self, input_shape, batch_size):
        params = self.get_params(deep=False)
        return _resolve.noise_injected(params, input_shape, batch_size)

    def _fitted_attributes(self, config, *others):
        model = config.model
        channel = _core.channels.CHANNELS[model.noise_distribution](model.noise_scale)
        return super()._fitted_attributes(config, *others) | {
            "noise_scale_": model.noise_scale,
            "agreement_weight_": model.agreement_weight,
            "sliced_weight_": model.sliced_weight,
            "capacity_": channel.capacity(model.network.n_components),
        }

    def _doubts(self):
        ceiling, information = self._ceiling(), self.information_
        is_held = self.sliced_weight_ > 0  # to their distribution by the penalty
        if information > _SATURATED * ceiling < self.capacity_ and not is_held:
            return [
                f"The information bound, {information:.2f} nats, is at the most that a "
                f"batch of {self.batch_size_} rows can report, {ceiling:.2f}, while "
                f"the channel could carry {self.capacity_:.2f}: the codes may stop "
                f"short of the promised distribution; lower 'n_components', or raise "
                f"'noise_scale' or 'batch_size'."
            ]
        if information > _IMPLAUSIBLE * self.capacity_ + 0.1:
            return [
                f"The information, {information:.2f} nats, is above the capacity of "
                f"the channel, {self.capacity_:.2f}: the estimate by objective="
                f"{self.objective!r} fails at so much; raise 'noise_scale', or use "
                f"objective='infonce'."
            ]
        return []
