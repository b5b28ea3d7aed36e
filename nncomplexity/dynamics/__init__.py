"""Complexity over training: many checkpoints, a row each, in a file that survives whatever ends the program.

- `functions`: functions of the user's on their way to other processes
- `settings`: how rows are measured, and what rows of one file have in common
- `sources`: which checkpoints patterns mean, and which run each belongs to
- `rows`: the keys of a row
- `calibration`: networks to compare with: untrained, constant, shuffled labels
- `job`: one row's work, in whichever process
- `rowcheck`: whether an object in a results.jsonl is a row that can be worked with
- `results_file`: a results.jsonl that is locked, mended and grows by whole lines: a row is written here
- `resume`: what a file has already
- `workers`: who measures: this process, others, or an executor
- `arrivals`: checkpoints that come while training goes on
- `tracking`: `track`: from checkpoints to rows
- `tracker`: `Tracker`: rows from within a training loop
- `delivery`: rows of a live network on their way to a results file
"""

from nncomplexity.dynamics.arrivals import Follow
from nncomplexity.dynamics.functions import UserFunction, user_divergence, user_function
from nncomplexity.dynamics.settings import Row
from nncomplexity.dynamics.tracker import Tracker
from nncomplexity.dynamics.tracking import WAITING, RowProgress, track

__all__ = [
    "WAITING",
    "Follow",
    "Row",
    "RowProgress",
    "Tracker",
    "UserFunction",
    "track",
    "user_divergence",
    "user_function",
]
