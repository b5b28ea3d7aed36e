"""Complexity over training: one row for each checkpoint, in a file that stays valid however the program ends.

- `functions`: the user's functions, in a form that can be sent to other processes
- `settings`: the settings that all rows of a file share
- `sources`: the checkpoints that match patterns, and the run of each
- `rows`: the keys of a row
- `calibration`: networks to compare with: untrained, constant, shuffled labels
- `job`: the work for one row, in any process
- `rowcheck`: checks that an object in a results.jsonl is a valid row
- `results_file`: a results.jsonl that is locked, repaired and extended by whole lines; rows are written here
- `resume`: finds the rows that a file already has
- `workers`: the processes that measure: this one, new ones, or those of an executor
- `arrivals`: new checkpoints of a running training
- `tracking`: `track`: from checkpoints to rows
- `tracker`: `Tracker`: rows from within a training loop
- `schedule`: at which training steps a `Tracker` measures
- `live_row`: the row of a network in memory, in this process or in another one
- `background`: a process, or an executor, that measures while this process trains
- `metric_names`: the numbers of a row under names that experiment trackers accept
- `delivery`: writes the rows of a `Tracker` to a results file
"""

from nncomplexity.dynamics.arrivals import Follow
from nncomplexity.dynamics.calibration import first_usable
from nncomplexity.dynamics.delivery import warn
from nncomplexity.dynamics.functions import UserFunction, user_divergence, user_function
from nncomplexity.dynamics.metric_names import numbers
from nncomplexity.dynamics.schedule import Every, LogSchedule
from nncomplexity.dynamics.settings import Given, Row, RowOptions
from nncomplexity.dynamics.sources import find_sources
from nncomplexity.dynamics.tracker import Tracker, TrackerOptions
from nncomplexity.dynamics.tracking import WAITING, RowProgress, track

__all__ = [
    "WAITING",
    "Every",
    "Follow",
    "Given",
    "LogSchedule",
    "Row",
    "RowOptions",
    "RowProgress",
    "Tracker",
    "TrackerOptions",
    "UserFunction",
    "find_sources",
    "first_usable",
    "numbers",
    "track",
    "user_divergence",
    "user_function",
    "warn",
]
