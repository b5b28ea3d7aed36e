"""Lists, durations, paths, numbers and progress, as text.

- `listing`: lists of names in messages, and forms of tensors as text
- `durations`: durations, as they are typed and shown
- `paths`: names of files as arguments
- `plain`: numbers of NumPy and PyTorch as Python's own
- `progress`: progress as one line of text, in terminals and notebooks
- `epsilon`: ε as people give it: a number in the loss's unit, or a share
- `units`: sizes on axes, with one unit for each axis
"""

from nncomplexity.words.durations import seconds_of, told
from nncomplexity.words.epsilon import (
    GRID,
    Eps,
    Relative,
    Share,
    default_grid,
    eps_named,
    name_of,
    names_in,
    of_results,
)
from nncomplexity.words.listing import form_in_words, listed, printable
from nncomplexity.words.paths import path_of
from nncomplexity.words.plain import is_number, plain_number, plain_numbers
from nncomplexity.words.progress import TimeLeft, show_progress
from nncomplexity.words.units import UNITS, number_in, unit_for

__all__ = [
    "GRID",
    "UNITS",
    "Eps",
    "Relative",
    "Share",
    "TimeLeft",
    "default_grid",
    "eps_named",
    "form_in_words",
    "is_number",
    "listed",
    "name_of",
    "names_in",
    "number_in",
    "of_results",
    "path_of",
    "plain_number",
    "plain_numbers",
    "printable",
    "seconds_of",
    "show_progress",
    "told",
    "unit_for",
]
