"""How well samples follow a law, what their codes carry, and scorers for selection.

A distance estimated from ``n`` rows is not zero even for rows drawn from the law
itself.  ``sample_floor`` says what it is then, and a distance means little without it.

Functions of a sample take plain arrays; scorers take an estimator and data, and can be
given as ``scoring`` to the model selection of scikit-learn.
"""

from .capacity import channel_capacity
from .dependence import neural_dependency_measure, neural_mutual_information
from .distances import (
    epps_pulley_distance,
    kolmogorov_smirnov_distance,
    norm_distance,
    sliced_wasserstein_distance,
)
from .normality import bhep_test, henze_zirkler_test
from .samples import sample_floor
from .scorers import (
    capacity_share_score,
    match_score,
    reference_information,
    reference_information_score,
)
from .summaries import effective_rank, norm_spread, total_correlation

__all__ = [
    "bhep_test",
    "capacity_share_score",
    "channel_capacity",
    "effective_rank",
    "epps_pulley_distance",
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
]
