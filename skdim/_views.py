"""Public class ``Views``: how training makes the two rows of a pair from one row."""

from numbers import Integral

from sklearn.base import BaseEstimator

from ._sklearn import Interval, NameIn, StrOptions, weight

__all__ = ["Views"]


class Views(BaseEstimator):
    """How training changes rows at random into views that should have equal codes.

    A view is a changed copy of a row.  Training compares two views of each row, or a
    view and the row itself, so that codes forget what differs between them.  Pass a
    ``Views`` object as the parameter ``views`` of an estimator.  There a name, a
    callable, a list of these or None, say ``v``, means ``Views(v)``.

    Parameters
    ----------
    augmentations : "auto", None, str, callable or list of these, default="auto"
        What changes a row into a view; the items of a list are applied in their order.

        - Tables: "jitter" adds normal noise; "marginal" replaces cells by others of
          their column; "neighbors" replaces cells by those of a near row.
        - Images: "crop", "shift", "affine", "flip", "color", "blur" and "erase".
        - A callable is called as ``augmentation(inputs, generator)`` with a batch of
          scaled inputs, a tensor of shape (n_rows, n_features) or (n_rows, channels,
          height, width), and a ``torch.Generator`` for its random draws.  It returns
          the views, a tensor of the same shape with finite numbers.

        "auto" is "neighbors" for tables, "affine" for images of one channel, "crop",
        "flip" and "color" for three or four channels, and "crop" for others.  None
        changes nothing.
    strength : "auto" or float, default="auto"
        Strength of every named augmentation, 0 or above; 0 changes nothing.  "auto"
        takes the default of each augmentation, given in brackets.

        - "jitter" (0.3): standard deviation of the noise, as a multiple of the standard
          deviation of the column.
        - "marginal" (0.4), "neighbors" (0.5): probability that a cell is replaced.
        - "flip" (0.5): probability that an image is mirrored.
        - "crop" (0.75): largest share of the area that is cut away.
        - "shift" (0.15): largest shift, as a share of height and width.
        - "erase" (0.5): longest side of the erased box, as a share of height and width.
        - "blur" (0.5): largest weight of the blurred image in its mean with the image.
        - "affine" (0.3): 1 rotates by up to 60 degrees, scales by a factor of up to
          exp(0.4), shears by up to 0.4 and shifts by up to a fifth of the size.
        - "color" (0.4): largest relative change of contrast and of saturation, and
          largest change of brightness in standard deviations.

        The strength is at most 1, except for "jitter", "affine" and "color".
    sides : {"both", "one"}, default="both"
        "both" compares two views of a row, "one" compares the unchanged row with a view
        of it.  With "one", ``NoiseInjectedDIM`` adds the noise to the code of the
        unchanged row, and ``DeepInfoMax`` compares this code with features of the view.
        "one" gives a closer match to the distribution on rows that are not augmented,
        "both" gives features that serve classifiers better.
    n_views : int, default=1
        Number of views that the code of each row is compared with.
    n_neighbors : int, default=5
        Number of nearest rows from which "neighbors" takes cells.  In a table, if the
        estimator has ``supervised=True``, it is also the number of nearest rows of the
        same class from which the other row of a pair is drawn.

    See Also
    --------
    NoiseInjectedDIM : Estimator with a parameter ``views``.
    DeepInfoMax : Another one.

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
