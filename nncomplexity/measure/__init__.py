"""What is measured, and what the results are: the functions that a user calls on one network.

- `arguments`: checks of the arguments that these functions share
- `estimate`: from a network, its loss and ε to reports
- `seeds`: searches with several seeds, in this process or on an executor
- `layers`: how a file codes each tensor
- `lossless`: the file of the unchanged network, and its size under every codec
- `report`: the result of a measurement
- `curve`: the rate–distortion curve: its hull, fits, ε* and best bound
- `verify`: checks the claims about a file, one by one
- `claims`: one claim, and the tolerance between two measurements of one number
- `reported`: reads what a report says about a file
- `rederived`: computes the keys of a report again and compares them, and lists the keys that are taken on trust
- `certificate`: a small report about one file, with the hashes of everything it was measured on
- `learning_coefficient`: the local learning coefficient, which can be compared with bits
- `critical_bits`: how coarsely the weights can be quantized within ε
- `best_bound`: the smallest bound over all files of a search
- `answers`: the answers of networks on labelled and unlabelled inputs, and how many of them differ
- `results`: results files as records for tables
- `json_schema`: JSON Schemas of results files
- `spread`: how much the sizes from several searches of one network differ
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
from nncomplexity.measure.certificate import certificate, hashes_of
from nncomplexity.measure.critical_bits import critical_bits
from nncomplexity.measure.curve import DEFAULT_EPS, Curve, bounds_of, default_eps, rate_distortion
from nncomplexity.measure.estimate import Options, SearchOptions, estimate
from nncomplexity.measure.json_schema import json_schema
from nncomplexity.measure.learning_coefficient import (
    Langevin,
    LearningCoefficient,
    check_examples,
    langevin_dynamics,
    local_learning_coefficient,
)
from nncomplexity.measure.rederived import Typed
from nncomplexity.measure.report import SCHEMA, Layer, Report, Subject, check_left_out, json_text, reports_dict, reports_json
from nncomplexity.measure.reported import Reported, read_report
from nncomplexity.measure.results import read_results
from nncomplexity.measure.verify import Verification, check_claims

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
    "Reported",
    "SearchOptions",
    "SeveralEps",
    "Subject",
    "Typed",
    "Verification",
    "best_bound",
    "bounds_of",
    "certificate",
    "check_claims",
    "check_examples",
    "check_function",
    "check_left_out",
    "checked_eps",
    "checked_method",
    "checked_seed",
    "checked_seeds",
    "critical_bits",
    "default_eps",
    "estimate",
    "hashes_of",
    "json_schema",
    "json_text",
    "langevin_dynamics",
    "local_learning_coefficient",
    "rate_distortion",
    "read_report",
    "read_results",
    "reports_dict",
    "reports_json",
]
