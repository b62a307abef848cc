"""Every public estimator with a small network and few epochs, for tests of all of them.

The tests of scikit-learn's contract run on these lists.  Add a new estimator here.
"""

from skdim import DeepInfoMax, InfoMaxOutlierDetector, NoiseInjectedDIM

SMALL = {"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 3}

ESTIMATORS = [
    NoiseInjectedDIM(**SMALL),
    DeepInfoMax(**SMALL),
]

DETECTORS = [InfoMaxOutlierDetector(NoiseInjectedDIM(**SMALL))]

# The defaults of the constructors, but for the number of epochs: the data of the checks
# have fewer columns than codes have components by default.
DEFAULTS = [
    NoiseInjectedDIM(max_iter=2),
    DeepInfoMax(max_iter=2),
    InfoMaxOutlierDetector(),
]

CLASSES = {type(estimator).__name__: type(estimator) for estimator in ESTIMATORS}

# Checks that scikit-learn generates only for its own estimators.  They are kept by
# name, so that a check that scikit-learn adds or drops does not break the import.
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


# The ones among these checks that are not about transformers.
UNGENERATED_OF_DETECTORS = [
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
    "check_param_validation",
]


def quick(of=NoiseInjectedDIM, **params):
    """Return a small, fast estimator of class ``of`` with these parameters."""
    defaults = {"n_components": 2, "max_iter": 3, "random_state": 0}
    return of(**(defaults | {"hidden_layer_sizes": (16,)} | params))


def name_of(estimator):
    """Return the name of the estimator's class, to label a test."""
    return type(estimator).__name__
