"""Metrics of codes, which are the rows that ``transform`` returns.

They measure how closely codes follow a target distribution, how dependent their
components are, and how much information they keep about the input.

Distances, tests and summaries take a sample as an array of shape (n_samples,
n_components).  A distance estimated from few rows is above 0 even for rows drawn from
the target distribution itself.  Compare it with ``sample_floor``, the mean distance of
such rows, or use ``excess_distance``, which removes it.  ``two_sample_test`` compares
two samples with each other.

Functions whose names end in ``_score`` take a fitted estimator and data, and can be
passed as ``scoring`` to the model selection of scikit-learn.  Information is in nats.
"""

from .capacity import channel_capacity
from .dependence import neural_dependency_measure, neural_mutual_information
from .distances import (
    epps_pulley_distance,
    kolmogorov_smirnov_distance,
    norm_distance,
    sliced_wasserstein_distance,
)
from .effect_size import excess_distance
from .normality import bhep_test, henze_zirkler_test
from .samples import sample_floor
from .scorers import (
    capacity_share_score,
    match_score,
    reference_information,
    reference_information_score,
)
from .summaries import effective_rank, norm_spread, total_correlation
from .two_sample import two_sample_test

__all__ = [
    "bhep_test",
    "capacity_share_score",
    "channel_capacity",
    "effective_rank",
    "epps_pulley_distance",
    "excess_distance",
    "henze_zirkler_test",
    "kolmogorov_smirnov_distance",
    "match_score",
    "neural_dependency_measure",
    "neural_mutual_information",
    "norm_distance",
    "norm_spread",
    "reference_information",
    "reference_information_score",
    "sample_floor",
    "sliced_wasserstein_distance",
    "total_correlation",
    "two_sample_test",
]
