"""Complexity over training: many checkpoints, a row each, in a file that survives whatever ends the program."""

from nncomplexity.track.arrivals import Follow
from nncomplexity.track.settings import Row
from nncomplexity.track.tracker import Tracker
from nncomplexity.track.tracking import track

__all__ = ["Follow", "Row", "Tracker", "track"]
