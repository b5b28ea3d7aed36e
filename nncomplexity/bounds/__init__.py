"""Generalization bounds from the length of a file: limits on the risk on unseen data of a predictor with K bits and n examples.

All bounds are functions of bits, risk, n and δ, without a network. docs/bounds.md explains them.

- `arguments`: checks that the bounds share
- `prefix`: the bits of a payload's length, in the Elias delta code
- `hoeffding`: the square-root bound, and Eq. 4 as printed
- `kl`: the binary Kullback–Leibler divergence, and `kl_inverse`, which gives the kl bound
- `kinds`: the kinds of bound, by name
- `occam`: `bound`: its value, whether it is vacuous, and the largest number of bits at which it is not
- `smoothed`: a bound on cross-entropy, with predictions mixed with the uniform distribution
- `mdl`: description length (Eqs. 1, 8)
- `chance`: the risk of a guess, and the smallest value at which a bound is vacuous
- `rounding`: bounds as text, rounded up
- `binomial`: the upper confidence limit of a probability, and the test-set bound
- `disagreement`: a bound on the original network, from its disagreement with the decoded one
"""

from nncomplexity.bounds.binomial import HoldoutBound, binomial_upper_limit, holdout_bound
from nncomplexity.bounds.chance import chance_from, vacuous_from
from nncomplexity.bounds.disagreement import DisagreementBound, disagreement_bound
from nncomplexity.bounds.hoeffding import hoeffding_bound
from nncomplexity.bounds.kinds import KINDS, Kind
from nncomplexity.bounds.kl import binary_kl, kl_inverse
from nncomplexity.bounds.mdl import (
    DescriptionLength,
    LossUnit,
    check_loss_unit,
    description_length,
    is_code_length,
    why_no_code_length,
)
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
    "chance_from",
    "check_loss_unit",
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
    "why_no_code_length",
]
