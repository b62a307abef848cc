"""Views: how the two rows of a pair are made from one row."""

from numbers import Integral

from sklearn.base import BaseEstimator

from ._sklearn import Interval, NameIn, StrOptions, weight

__all__ = ["Views"]


class Views(BaseEstimator):
    """How training makes two views of a row, so that codes forget what differs.

    Pass it as ``views`` to an estimator.  A name, a callable or a list of these stands
    for ``Views`` of them with all other parameters at their defaults.

    Parameters
    ----------
    augmentations : "auto", None, str, callable or list of these, default="auto"
        What changes a row into a view, applied in this order.

        - Tables: "jitter" adds normal noise; "marginal" replaces cells by others of
          their column; "neighbors" replaces cells by those of a near row.
        - Images: "crop", "shift", "affine", "flip", "color", "blur" and "erase".
        - A callable is called as ``augmentation(inputs, generator)`` with a batch of
          scaled inputs and a ``torch.Generator``, and returns a batch of the same
          shape.

        "auto" is "neighbors" for tables, "affine" for images of one channel, "crop",
        "flip" and "color" for three or four channels, and "crop" for others.  None
        compares rows as they are.
    strength : "auto" or float, default="auto"
        Strength of every named augmentation: a standard deviation ("jitter"), the
        probability that a cell or image is changed ("marginal", "neighbors", "flip"),
        the largest share of the image ("crop", "shift", "erase", "blur"), or the size
        of the change relative to the largest sensible one ("affine", "color").
        Probabilities and shares are at most 1.  "auto" takes the default of each.
    sides : {"both", "one"}, default="both"
        Whether the row whose code is sent through the noise is changed too.  "one"
        gives a closer match to the distribution on clean data, "both" gives features
        that serve classifiers better.
    n_views : int, default=1
        Number of views that are compared with each noisy code.
    n_neighbors : int, default=5
        Number of near rows that "neighbors" draws from, and of partners of the same
        class in a table if ``supervised``.

    See Also
    --------
    NoiseInjectedDIM : Takes ``views``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skdim import NoiseInjectedDIM, Views
    >>> from skdim.metrics import match_score
    >>> X, _ = load_wine(return_X_y=True)
    >>> dim = NoiseInjectedDIM(2, views=Views("jitter"), max_iter=5, random_state=0)
    >>> grid = {"views__strength": [0.1, 0.3]}
    >>> search = GridSearchCV(dim, grid, scoring=match_score, cv=2).fit(X)
    >>> sorted(search.best_params_)
    ['views__strength']
    """

    _parameter_constraints = {  # noqa: RUF012
        "augmentations": [
            None,
            NameIn("augmentations", "AUGMENTATIONS", "auto"),
            callable,
            list,
            tuple,
        ],
        "strength": [StrOptions({"auto"}), weight()],
        "sides": [StrOptions({"both", "one"})],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        augmentations="auto",
        *,
        strength="auto",
        sides="both",
        n_views=1,
        n_neighbors=5,
    ):
        self.augmentations = augmentations
        self.strength = strength
        self.sides = sides
        self.n_views = n_views
        self.n_neighbors = n_neighbors
