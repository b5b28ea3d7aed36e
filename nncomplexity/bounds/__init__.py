"""Generalization bounds from the length of a file: what a predictor of K bits, tried on n examples, promises on others."""

from nncomplexity.bounds.binomial import HoldoutBound, binomial_upper_limit, holdout_bound
from nncomplexity.bounds.chance import vacuous_from
from nncomplexity.bounds.disagreement import DisagreementBound, disagreement_bound
from nncomplexity.bounds.hoeffding import hoeffding_bound
from nncomplexity.bounds.kinds import KINDS, Kind
from nncomplexity.bounds.kl import binary_kl, kl_inverse
from nncomplexity.bounds.mdl import DescriptionLength, LossUnit, description_length, is_code_length
from nncomplexity.bounds.occam import Bound, bound
from nncomplexity.bounds.prefix import elias_delta_bits
from nncomplexity.bounds.rounding import rounded_up
from nncomplexity.bounds.smoothed import DEFAULT_ALPHAS, SmoothedBound, smoothed_bound, smoothed_loss

__all__ = [
    "DEFAULT_ALPHAS",
    "KINDS",
    "Bound",
    "DescriptionLength",
    "DisagreementBound",
    "HoldoutBound",
    "Kind",
    "LossUnit",
    "SmoothedBound",
    "binary_kl",
    "binomial_upper_limit",
    "bound",
    "description_length",
    "disagreement_bound",
    "elias_delta_bits",
    "hoeffding_bound",
    "holdout_bound",
    "is_code_length",
    "kl_inverse",
    "rounded_up",
    "smoothed_bound",
    "smoothed_loss",
    "vacuous_from",
]
