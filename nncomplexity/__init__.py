"""nncomplexity measures how complex a trained neural network is: the bits of the smallest file found that decodes to it within ε."""

from nncomplexity.dynamics import Follow, LogSchedule, Tracker, track
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import load
from nncomplexity.measure import (
    BestBound,
    Curve,
    Langevin,
    Layer,
    LearningCoefficient,
    Report,
    best_bound,
    estimate,
    local_learning_coefficient,
    rate_distortion,
)
from nncomplexity.moved import serve_old_names
from nncomplexity.network import Divergence, loss_from
from nncomplexity.search import Interrupt, StopSearch
from nncomplexity.version import __version__
from nncomplexity.words import Relative

__all__ = [
    "BestBound",
    "Curve",
    "Divergence",
    "Follow",
    "FormatError",
    "InputError",
    "Interrupt",
    "Langevin",
    "Layer",
    "LearningCoefficient",
    "LogSchedule",
    "Relative",
    "Report",
    "StopSearch",
    "Tracker",
    "__version__",
    "best_bound",
    "estimate",
    "load",
    "local_learning_coefficient",
    "loss_from",
    "rate_distortion",
    "track",
]

serve_old_names()
