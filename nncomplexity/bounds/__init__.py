"""Generalization bounds from the length of a file: what a predictor of K bits, tried on n examples, promises on others.

Functions of bits, risk, n and δ; nothing here knows a network. docs/bounds.md explains them.

- `arguments`: checks that the bounds share
- `prefix`: the price of a length: Elias delta code
- `hoeffding`: the square-root bound, and Eq. 4 as printed
- `kl`: binary divergence, and the inverse that gives the kl bound
- `kinds`: the kinds by name
- `occam`: `bound`: value, vacuous or not, and how many bits it would take
- `smoothed`: cross-entropy, predictions mixed with the uniform one
- `mdl`: description length (Eqs. 1, 8)
- `chance`: the risk of a guess, and from which value on a bound is vacuous
- `rounding`: bounds in print, rounded upwards
- `binomial`: the upper confidence limit of a probability, and the test-set bound
- `disagreement`: from the decoded network to the original: the bound to disagree
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
