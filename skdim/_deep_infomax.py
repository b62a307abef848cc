"""The Deep InfoMax transformer."""

from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from ._parameters import CommonParameters, common_constraints, not_negative
from ._sklearn import Constraints, StrOptions

__all__ = ["DeepInfoMax"]


def _constraints():
    """Return what each parameter may be; names come from the tables of the core."""
    from ._core.bounds import BOUNDS
    from ._core.channels import CHANNELS
    from ._critics import LEARNED

    return common_constraints() | {
        "global_weight": [not_negative()],
        "prior_weight": [not_negative()],
        "prior": [StrOptions(set(CHANNELS))],
        "objective": [StrOptions(set(BOUNDS))],
        "critic": [StrOptions(set(LEARNED))],
    }


class DeepInfoMax(CommonParameters):
    """Learn features that keep global and local information about the input.

    An encoder is trained, without labels, to maximise the mutual information between
    its code and its own features below the code: as a whole (global), at each position
    of an image or group of columns of a table (local), or both.  A discriminator that
    learns to tell codes from draws of a prior holds them to it, adversarially [1]_.
    ``NoiseInjectedDIM`` holds codes to a law without an adversary, and more closely.

    Parameters
    ----------
    n_components : int, default=64
        Number of components of the code.

    global_weight : float, default=0.0
        Weight of the information between the code and all features together; the
        paper's alpha.  In tables, and with an encoder of your own that does not name
        its parts, features are the inputs.

    local_weight : float, default=1.0
        Weight of the information between the code and the features at each position,
        averaged over positions; the paper's beta.  Positions are those of the map of
        features of "conv"; in tables, groups of columns that stand together.  For
        images it needs an encoder whose features keep their positions, such as "conv".

    prior_weight : float, default=0.1
        Weight of the adversarial match to the prior; the paper's gamma.  0 leaves
        codes to themselves.  ``DeepInfoMax.PRESETS`` holds the three sets of weights
        of the paper, "global", "local" (the default) and "both".

    prior : {"uniform", "normal"}, default="uniform"
        Law that components of the code are to follow independently: U[0, 1], which the
        normal distribution function maps codes into, or N(0, 1).

    objective : {"jsd", "infonce", "dv", "nwj", "smile"}, default="jsd"
        Lower bound on the mutual information that is maximised.

    critic : {"separable", "bilinear", "concatenated"}, default="separable"
        How a code and features are compared: by the inner product of two learned
        embeddings (the paper's encode-and-dot), by a learned matrix, or by a
        perceptron on both (concatenate-and-convolve), which needs the more memory.

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
        What ``transform`` returns: the code, or a layer below it, standardised by
        column: the "hidden" layer before the code, the paper's *fc*, or the flattened
        "features" of the last convolution of "conv", its *conv*.

    views : "auto", None, str, callable or list of these, default=None
        How the row whose features are compared is altered, as in ``NoiseInjectedDIM``;
        "erase" is the paper's occlusion.  None compares a code with features of the
        same row.

    view_strength : "auto" or float, default="auto"
        Of all named views: a standard deviation ("jitter"), the probability that a
        cell or image is changed ("marginal", "neighbors", "flip"), the largest share
        of the image ("crop", "shift", "erase", "blur"; of these two kinds at most 1),
        or the size of the change where 1 is as much as makes sense.  "auto" is each
        one's own.

    view_sides : {"both", "one"}, default="both"
        Whether the row whose code is compared is altered too.

    n_views : int, default=1
        Number of views whose features are compared with a code.

    n_neighbors : int, default=5
        Number of near rows that "neighbors" draws from, and partners of the same class
        in a table if ``supervised``.

    supervised : bool, default=False
        Whether ``fit`` uses ``y``: code and features are then of rows of the same
        class (in tables, near ones).  -1 marks unlabelled rows.

    batch_size : "auto" or int, default="auto"
        Rows per step.  "auto" is 256, or all rows if there are fewer.

    max_iter : "auto" or int, default="auto"
        Number of epochs.  "auto" is as many as make 400 steps.

    learning_rate_init : float, default=2e-3
        Peak learning rate of AdamW, under a one-cycle schedule over ``max_iter``.  The
        discriminator has an optimiser of its own.

    alpha : float, default=0.0
        Weight decay, decoupled as in AdamW.

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
    output_distribution_ : {"normal", "uniform"} or None
        The prior; None for layers below the code, which follow none.

    batch_size_ : int
        Number of rows used per step.

    information_ : float
        Information, in nats, of the training data after training, estimated like
        ``score`` on at most 20 batches.

    information_curve_ : list of float of length n_iter_
        Mean of the information, in nats, over the batches of each epoch.

    match_curve_ : list of float of length n_iter_
        Mean, over the batches of each epoch, of what random slices of the codes lack
        to the normal law, in nats; 0 is a perfect match.

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
        If ``tol`` was not met within ``max_iter``, if training was interrupted, or if
        it diverged and was taken up again.

    See Also
    --------
    NoiseInjectedDIM : Holds codes to a law by noise instead of an adversary.

    Notes
    -----
    Inputs are scaled inside as in ``NoiseInjectedDIM``.  Codes are not normalised:
    what holds them to the prior is the discriminator alone.

    ``score`` is a mean of the information of the terms by their weights, in nats: it
    compares estimators of equal weights.  To choose weights, use what the codes are
    for, or ``reference_information_score``.

    Information of "jsd" is reported by the estimate of "nwj" with the critic that it
    trained, which can be far below 0 where that has learned little.

    Two things differ from the paper: the normal distribution function takes the place
    of its sigmoid, which is nearly the same, so that a code can be sent from one law to
    another; and negatives of features at a position are those of other rows at the same
    position.

    References
    ----------
    .. [1] Hjelm et al., "Learning deep representations by mutual information
       estimation and maximization", ICLR 2019, arXiv:1808.06670.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdim import DeepInfoMax
    >>> X = load_digits().images[..., None]
    >>> dim = DeepInfoMax(8, max_iter=5, random_state=0).fit(X[:1000])
    >>> codes = dim.transform(X[1000:])
    >>> codes.shape, bool(codes.min() >= 0), bool(codes.max() <= 1)
    ((797, 8), True, True)
    >>> both = DeepInfoMax(8, **DeepInfoMax.PRESETS["both"])
    >>> both.global_weight, both.local_weight, both.prior_weight
    (0.5, 1.0, 0.1)
    """

    # Weights of arXiv 1808.06670, section 4.
    PRESETS = MappingProxyType(
        {
            name: MappingProxyType(
                {"global_weight": alpha, "local_weight": beta, "prior_weight": gamma}
            )
            for name, (alpha, beta, gamma) in {
                "global": (1.0, 0.0, 1.0),
                "local": (0.0, 1.0, 0.1),
                "both": (0.5, 1.0, 0.1),
            }.items()
        }
    )

    def __init__(
        self,
        n_components=64,
        *,
        global_weight=0.0,
        local_weight=1.0,
        prior_weight=0.1,
        prior="uniform",
        objective="jsd",
        critic="separable",
        encoder="auto",
        hidden_layer_sizes="auto",
        image_shape=None,
        output_layer="code",
        views=None,
        view_strength="auto",
        view_sides="both",
        n_views=1,
        n_neighbors=5,
        supervised=False,
        batch_size="auto",
        max_iter="auto",
        learning_rate_init=2e-3,
        alpha=0.0,
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
        self.global_weight = global_weight
        self.local_weight = local_weight
        self.prior_weight = prior_weight
        self.prior = prior
        self.objective = objective
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

    _names: ClassVar = CommonParameters._names | {
        "noise_distribution": "prior",
        "feature_critic": "critic",
    }

    @property
    def _law(self):
        return self.prior

    def _resolve_model(self, batch_size, row_shape, channels_first):
        from ._spec import ModelSpec

        network = self._resolve_network(row_shape, channels_first)
        if not (self.global_weight or self.local_weight):
            raise ValueError(
                "DeepInfoMax needs information to maximise. Got global_weight=0 and "
                "local_weight=0; set one of them above 0."
            )
        return ModelSpec(
            network=replace(network, normalizes=False),
            noise_distribution=self.prior,
            noise_scale=0.0,
            critic=None,
            objective=self.objective,
            views=self._resolve_views(network),
            is_supervised=bool(self.supervised),
            global_weight=float(self.global_weight),
            local_weight=float(self.local_weight),
            prior_weight=float(self.prior_weight),
            feature_critic=self.critic,
        )
