"""What the command line does. A command parses its options, calls one function, and prints. docs/cli.md is the reference.

Its modules name what they need of other wings by the package, as in `nncomplexity.measure.estimate`, which loads it when the function runs.
Only `words`, which doesn't need PyTorch, is imported at their tops.

- `commands`: the commands together, exit codes, and errors as one line
- `loading`: what a command needs, loaded when it runs
- `options`: the options that commands share
- `groups`: these options in groups, of which a command has one parameter each
- `subject`: the network and the functions that a command line names, found and loaded
- `basefile`: a base named on the command line
- `outputs`: the files and streams for results, checked before the search begins
- `measure`, `curve`, `bound`, `track`, `decompress`, `verify`, `certify`, `compare`, `doctor`, `init`: the command of that name
- `show`: the commands `plot` and `report`
- `file_check`: what `verify` and `certify` have in common
- `task_text`: the module that `init` writes
- `table`, `curve_table`, `track_table`, `compare_table`: results as tables for people
"""

from nncomplexity.cli.commands import main

__all__ = [
    "main",
]
