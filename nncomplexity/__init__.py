"""nncomplexity measures how complex a trained neural network is: the bits of the smallest file found that decodes to it within ε.

Names are loaded when they are first used, because all that measures needs PyTorch, whose import takes seconds.
"""

from typing import TYPE_CHECKING

from nncomplexity.version import __version__
from nncomplexity.words import load_on_demand, serve_old_names

if TYPE_CHECKING:
    from nncomplexity import bounds as bounds
    from nncomplexity import checkpoint as checkpoint
    from nncomplexity import codecs as codecs
    from nncomplexity import dynamics as dynamics
    from nncomplexity import file as file
    from nncomplexity import integrations as integrations
    from nncomplexity import linalg as linalg
    from nncomplexity import measure as measure
    from nncomplexity import network as network
    from nncomplexity import search as search
    from nncomplexity import show as show
    from nncomplexity import training as training
    from nncomplexity import words as words
    from nncomplexity import workers as workers
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
        read_results,
    )
    from nncomplexity.network import Divergence, loss_from
    from nncomplexity.search import Interrupt, StopSearch
    from nncomplexity.words import Relative

_NAMES = {
    "dynamics": ("Follow", "LogSchedule", "Tracker", "track"),
    "errors": ("FormatError", "InputError"),
    "file": ("load",),
    "measure": (
        *("BestBound", "Curve", "Langevin", "Layer", "LearningCoefficient", "Report"),
        *("best_bound", "estimate", "local_learning_coefficient", "rate_distortion", "read_results"),
    ),
    "network": ("Divergence", "loss_from"),
    "search": ("Interrupt", "StopSearch"),
    "words": ("Relative",),
}
"""Where each public name is. The block above says the same to type checkers."""
_WINGS = frozenset(
    (
        "bounds",
        "checkpoint",
        "codecs",
        "dynamics",
        "file",
        "integrations",
        "linalg",
        "measure",
        "network",
        "search",
        "show",
        "training",
        "words",
        "workers",
    )
)

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
    "read_results",
    "track",
]


load_on_demand(__name__, _NAMES, _WINGS)
serve_old_names()
