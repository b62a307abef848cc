"""scikit-learn's own checks, and those it never generates for third parties."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdim import NoiseInjectedDIM

# Small and short: what is checked here does not depend on size.
ESTIMATORS = [
    NoiseInjectedDIM(n_components=2, hidden_layer_sizes=(8,), max_iter=3),
]


@parametrize_with_checks(ESTIMATORS)
def test_generated_check(estimator, check):
    check(estimator)


# Kept by name, so that a check scikit-learn adds or drops does not break the import.
UNGENERATED = [
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
    "check_param_validation",
]


@pytest.mark.parametrize("name", UNGENERATED)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_ungenerated_check(estimator, name):
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)
