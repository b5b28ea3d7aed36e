"""Lists, durations, paths, numbers and progress, as text.

- `text`: lists of names, counts and exceptions in messages, and forms in words
- `durations`: durations, as they are typed and shown
- `paths`: names of files as arguments
- `numbers`: numbers as arguments, and conversion of NumPy's and PyTorch's numbers to Python numbers
- `progress`: progress as one line of text, in terminals and notebooks
- `epsilon`: ε as users give it: a number in the loss's unit, or a share
- `on_demand`: names of a package that are loaded when they are first used
- `moved`: the earlier names of modules, which can still be imported
- `units`: sizes on axes, with one unit for each axis
"""

from nncomplexity.words.durations import duration_in_words, seconds_of
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
from nncomplexity.words.moved import serve_old_names
from nncomplexity.words.numbers import (
    checked_count,
    checked_number,
    is_number,
    number_of_text,
    python_number,
    python_numbers,
    shown,
)
from nncomplexity.words.on_demand import load_on_demand
from nncomplexity.words.paths import current_folder, in_folder, is_file, path_of
from nncomplexity.words.progress import TimeLeft, show_progress
from nncomplexity.words.text import counted, error_line, form_in_words, listed, or_dash, printable, shape_in_words, text_of
from nncomplexity.words.units import UNITS, number_in, unit_for

__all__ = [
    "GRID",
    "UNITS",
    "Eps",
    "Relative",
    "Share",
    "TimeLeft",
    "checked_count",
    "checked_number",
    "counted",
    "current_folder",
    "default_grid",
    "duration_in_words",
    "eps_named",
    "error_line",
    "form_in_words",
    "in_folder",
    "is_file",
    "is_number",
    "listed",
    "load_on_demand",
    "name_of",
    "names_in",
    "number_in",
    "number_of_text",
    "of_results",
    "or_dash",
    "path_of",
    "printable",
    "python_number",
    "python_numbers",
    "seconds_of",
    "serve_old_names",
    "shape_in_words",
    "show_progress",
    "shown",
    "text_of",
    "unit_for",
]
