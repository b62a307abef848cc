"""Callbacks of scikit-learn 1.9 and later: an epoch is a task of the fit."""

from ._utils.progress import Watcher

__all__ = ["CallbackWatcher"]


class CallbackWatcher(Watcher):
    """Tell the callbacks of an estimator of every epoch.

    Parameters
    ----------
    estimator : estimator with ``CallbackSupportMixin``
    X, y : array-like
        As given to ``fit``.
    n_epochs : int
        The most there can be.
    attributes : callable
        Returns the fitted attributes that a result of training stands for.
    """

    def __init__(self, estimator, X, y, n_epochs, attributes):
        self._told = {"estimator": estimator, "X": X, "y": y}
        self._attributes = attributes
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._told)
        self._epoch = None

    def epoch_begins(self):
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def epoch_ends(self, result, snapshot):
        return self._epoch.call_on_fit_task_end(
            **self._told,
            reconstruction_attributes=lambda: self._attributes(snapshot()),
        )

    def close(self):
        self._fit.call_on_fit_task_end(**self._told)
