"""Complexity over training: many checkpoints, a row each, in a file that survives whatever ends the program."""

from nncomplexity.dynamics.arrivals import Follow
from nncomplexity.dynamics.settings import Row
from nncomplexity.dynamics.tracker import Tracker
from nncomplexity.dynamics.tracking import track

__all__ = ["Follow", "Row", "Tracker", "track"]
