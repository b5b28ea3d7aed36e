"""The command line. A command parses its options, calls one function, and prints. docs/cli.md is the reference.

These modules use other wings through the package, as in `nncomplexity.measure.estimate`. So a wing is loaded when a function runs, and not when
the module is imported. Only `words`, which doesn't need PyTorch, is imported at the top of a module.

- `commands`: all commands, exit codes, and errors as one line
- `loading`: loads the wing that a command needs when the command runs
- `options`: the options that commands share
- `groups`: groups of these options; a command has one parameter for a group
- `subject`: finds and loads the network and the functions that a command line names
- `basefile`: loads the base that a command line names
- `outputs`: the files and streams for results, checked before the search begins
- `measure`, `curve`, `bound`, `track`, `decompress`, `verify`, `certify`, `compare`, `doctor`, `init`: the command of that name
- `show`: the commands `plot` and `report`
- `file_check`: the common part of `verify` and `certify`
- `task_text`: the module that `init` writes
- `table`, `curve_table`, `track_table`, `compare_table`: results as tables for people
"""

from nncomplexity.cli.commands import main

__all__ = [
    "main",
]
