"""What is measured, and what comes out: the functions that a user calls on one network.

- `arguments`: checks of the arguments that these functions share
- `estimate`: from a network, its loss and ε to reports
- `layers`: what became of each tensor in a file
- `lossless`: the network as it is, under every codec, and its file
- `report`: the result of a measurement
- `curve`: many ε: the hull, fits, ε*, and the best bound
- `verify`: the claims that can be made of a file, checked one by one
- `learning_coefficient`: the local learning coefficient, to compare with, by a sampler of Langevin dynamics
- `best_bound`: the smallest bound over all files of a search
- `spread`: how far apart several searches of one network end
"""

from nncomplexity.measure.arguments import (
    SeveralEps,
    check_function,
    checked_eps,
    checked_method,
    checked_seed,
    checked_seeds,
)
from nncomplexity.measure.best_bound import BestBound, best_bound
from nncomplexity.measure.curve import DEFAULT_EPS, Curve, default_eps, rate_distortion
from nncomplexity.measure.estimate import Options, SearchOptions, estimate
from nncomplexity.measure.learning_coefficient import (
    Langevin,
    LearningCoefficient,
    check_examples,
    langevin_dynamics,
    local_learning_coefficient,
)
from nncomplexity.measure.report import SCHEMA, Layer, Report, Subject, json_text, reports_dict, reports_json
from nncomplexity.measure.verify import Verification, check_claims, read_report

__all__ = [
    "DEFAULT_EPS",
    "SCHEMA",
    "BestBound",
    "Curve",
    "Langevin",
    "Layer",
    "LearningCoefficient",
    "Options",
    "Report",
    "SearchOptions",
    "SeveralEps",
    "Subject",
    "Verification",
    "best_bound",
    "check_claims",
    "check_examples",
    "check_function",
    "checked_eps",
    "checked_method",
    "checked_seed",
    "checked_seeds",
    "default_eps",
    "estimate",
    "json_text",
    "langevin_dynamics",
    "local_learning_coefficient",
    "rate_distortion",
    "read_report",
    "reports_dict",
    "reports_json",
]
