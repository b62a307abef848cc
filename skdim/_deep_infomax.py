"""The Deep InfoMax transformer."""

from types import MappingProxyType
from typing import ClassVar

from . import _core, _resolve
from ._base import BaseInfoMax
from ._sklearn import NameIn, weight

__all__ = ["DeepInfoMax"]


class DeepInfoMax(BaseInfoMax):
    """Learn features that keep global and local information about the input.

    An encoder is trained, without labels, to maximise the mutual information between
    its code and the features that an earlier layer finds in the input: with all
    features together (global), with those at each position of an image or group of
    columns of a table (local), or both.  A discriminator learns to tell codes from
    draws of a prior distribution, and the encoder is trained to deceive it, so that
    codes follow the prior [1]_.  Codes of ``NoiseInjectedDIM``, which has no adversary,
    follow their distribution more closely.

    Parameters
    ----------
    n_components : int, default=64
        Number of components of the code.

    global_weight : float, default=0.0
        Weight in the objective of the mutual information between the code and all
        features together; alpha in the paper [1]_.  In tables, and with an encoder of
        your own that does not name its submodules, the features are the inputs.

    local_weight : float, default=1.0
        Weight in the objective of the mutual information between the code and the
        features at one position, averaged over positions; beta in the paper.  Positions
        are those of the last convolution of "conv", or groups of neighbouring columns
        in tables.  Images need an encoder whose features keep their positions, such as
        "conv".

    prior_weight : float, default=0.1
        Weight in the objective of the adversarial loss, by which the encoder learns to
        deceive the discriminator, so that codes follow the prior; gamma in the paper.
        0 trains without a discriminator.  ``DeepInfoMax.PRESETS`` holds the three sets
        of weights of the paper, "global", "local" (the default) and "both".

    prior : {"uniform", "normal"}, default="uniform"
        Distribution that the components of the code are to follow independently:
        U[0, 1] or N(0, 1).  For "uniform" the encoder's output passes through the
        distribution function of N(0, 1) to become the code; for "normal" it is the
        code.

    views : Views, "auto", None, str, callable or list, default=None
        How views, randomly changed copies of a row, are made in training.  A code is
        compared with the features of another view of its row.  None compares a code
        with the features of the same row, unchanged.  A name, callable or list ``v``
        means ``Views(v)``, and "auto" means ``Views("auto")``; see there for the names.
        ``Views(v, sides="one")`` computes codes of the unchanged rows.  "erase" is the
        paper's occlusion.

    supervised : bool, default=False
        True makes ``fit`` use ``y``: each training pair, a row whose code is computed
        and a row whose features it is compared with, is then two rows of the same
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
        ``hidden`` and ``code``, applied in this order, to use ``output_layer`` and
        ``local_weight`` with it.

    hidden_layer_sizes : "auto", int or array-like of int, default="auto"
        Widths of the hidden layers of "mlp", or numbers of channels of the stages of
        "conv".  "auto" is ``(256,)`` for "mlp" and ``(32, 64, 128)`` for "conv".

    output_layer : {"code", "hidden", "features"}, default="code"
        What ``transform`` returns.  "code" follows ``prior``.  The other layers follow
        no known distribution, and their outputs are standardised by column.  "hidden"
        is the layer before the code (*fc* in the paper), and "features" is the
        flattened last convolution of "conv" (*conv* in the paper).

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
        Rows per training step.  "auto" is 256, or all rows if there are fewer.

    learning_rate_init : float, default=2e-3
        Peak learning rate of AdamW.  It rises and falls once over ``max_iter`` (a
        one-cycle schedule).  The discriminator has an optimiser of its own.

    weight_decay : float, default=0.0
        Decoupled weight decay of AdamW: each step shrinks the weights of the encoder by
        the share "learning rate times ``weight_decay``".

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
        Seed of initial weights, batches, views and draws of the prior; an int makes
        ``fit`` reproducible.

    verbose : bool or int, default=0
        0 shows nothing.  1 shows a progress bar if tqdm or rich is installed, and
        otherwise prints the information of each epoch.  2 or more always prints.

    objective : {"jsd", "infonce", "dv", "nwj", "smile"}, default="jsd"
        What training maximises: a bound on the mutual information between codes and
        features.  The names stand for Jensen-Shannon, InfoNCE, Donsker-Varadhan,
        Nguyen-Wainwright-Jordan and SMILE; "smile" trains as "jsd" does, and differs in
        the information that it reports.

    critic : {"separable", "bilinear", "concatenated"}, default="separable"
        The function that scores how well a code and features belong together, for the
        bound.  "separable" learns two embeddings and takes their inner product
        (encode-and-dot in the paper), "bilinear" learns a matrix between code and
        features, and "concatenated" learns a perceptron on both
        (concatenate-and-convolve in the paper), which needs more memory.

    Attributes
    ----------
    output_distribution_ : {"normal", "uniform"} or None
        Distribution of what ``transform`` returns: ``prior``, or None if
        ``output_layer`` is not "code".

    batch_size_ : int
        Number of rows used per training step.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance of the standardised inputs that each component explains,
        by linear regression on training rows.  ``fit`` orders components by it.  Only
        if ``output_layer`` is "code".

    loadings_ : ndarray of shape (n_components, n_features_in_)
        Correlation of each component, before it is mapped to ``prior``, with each
        column of the training rows.  The largest of each component is positive.  Only
        for tables, and if ``output_layer`` is "code".

    information_ : float
        Mutual information, in nats, of the trained model on training rows, estimated as
        by ``score`` but on at most 20 batches.

    information_curve_ : list of float of length n_iter_
        Estimated mutual information, in nats, averaged over the training batches of
        each epoch.

    match_curve_ : list of float of length n_iter_
        Kullback-Leibler divergence, in nats, of random one-dimensional projections
        ("slices") of the encoder's output from N(0, 1), averaged over the training
        batches of each epoch; 0 is a perfect match.  Both distributions are smoothed by
        normal noise before they are compared.

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
        If there were fewer than 5 training rows for each component.  If training was
        interrupted.

    See Also
    --------
    NoiseInjectedDIM : Makes codes follow a distribution by noise, more closely.

    Notes
    -----
    Inputs are scaled as in ``NoiseInjectedDIM``.  Codes are not normalised: only the
    discriminator makes them follow the prior.

    ``score`` is the mean of the global and the local information, in nats, weighted by
    ``global_weight`` and ``local_weight``, so that it compares only estimators with
    equal weights.  To choose weights, use the task that the codes are for, or
    ``skdim.metrics.reference_information_score``.

    The information of "jsd" is reported by the estimate of "nwj" with the critic that
    "jsd" trained; it can be far below 0 where the critic has learned little.

    Two things differ from the paper.  The normal distribution function replaces its
    sigmoid, which is nearly the same, so that a code can be mapped from one
    distribution to another.  And the negative samples for the features at a position
    are the features of other rows at the same position.

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
        views=None,
        supervised=False,
        encoder="auto",
        hidden_layer_sizes="auto",
        output_layer="code",
        final_map="auto",
        image_shape=None,
        max_iter="auto",
        batch_size="auto",
        learning_rate_init=2e-3,
        weight_decay=0.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        input_scaling="auto",
        device="auto",
        random_state=None,
        verbose=0,
        objective="jsd",
        critic="separable",
    ):
        self.n_components = n_components
        self.global_weight = global_weight
        self.local_weight = local_weight
        self.prior_weight = prior_weight
        self.prior = prior
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
        self.objective = objective
        self.critic = critic

    _parameter_constraints = BaseInfoMax._parameter_constraints | {
        "global_weight": [weight()],
        "local_weight": [weight()],
        "prior_weight": [weight()],
        "prior": [NameIn("channels", "CHANNELS")],
        "critic": [NameIn("critics", "CRITICS")],
    }
    _parameter_names: ClassVar = {
        "noise_distribution": "prior",
        "feature_critic": "critic",
    }

    def _distribution(self):
        return _core.channels.CHANNELS[self.prior].distribution

    def _model_spec(self, input_shape, batch_size):
        return _resolve.deep_infomax(self.get_params(deep=False), input_shape)
