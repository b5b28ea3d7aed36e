"""Stand-ins for the classes and functions that a pickle names: they keep what they are given as plain data, and do nothing with it.

A file of `torch.save` may hold objects of any class: whole modules, options, enumerations. To read what is in them, nothing of theirs needs
to be imported or called. Each name is given a class of our own, `torch.load(weights_only=True)` makes objects of it, and the state that
the file has for them stays a dictionary.
"""

import io
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

_HARMLESS = frozenset(
    (
        *(
            "abc",
            "argparse",
            "collections",
            "copy",
            "copyreg",
            "dataclasses",
            "datetime",
            "decimal",
            "enum",
            "fractions",
            "functools",
        ),
        *(
            "inspect",
            "logging",
            "math",
            "numbers",
            "pathlib",
            "random",
            "re",
            "statistics",
            "string",
            "time",
            "types",
            "typing",
            "uuid",
        ),
    )
)
"""Modules of Python's library whose classes and functions stand beside networks. A file that names others wants to act, and is refused."""
# Types such as `list[int]` and `int | str`, in the options of structured configurations, are pickled as calls of operators.
_PLAIN = frozenset(("_codecs.encode", "_operator.getitem", "_operator.or_", "operator.getitem", "operator.or_")) | {
    f"builtins.{name}"
    for name in (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice"),
        *("str", "tuple", "type", "Ellipsis", "NotImplemented"),
    )
}
"""Names of other modules that are harmless, too."""


class Inert:
    """An object of a class that the file names, or what a function that it names would have returned.

    Attributes:
        state: what the file has for it, mostly its attributes by name; None where it has nothing.
    """

    state: object = None

    def __new__(cls, *_: object, **__: object) -> Any:
        """Take whatever the file gives, and hold nothing of it."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, name: object, value: object) -> None:
        """Takes what some versions of PyTorch give to an object without asking whether it is a dictionary."""


class InertMapping(Inert):
    """The same for a class that is a dictionary: PyTorch fills plain ones only."""

    def __new__(cls, *_: object, **__: object) -> Any:
        """An empty ordered dictionary."""
        return OrderedDict()  # the one that may also be given attributes


class InertList(Inert):
    """The same for a class that is a list."""

    def __new__(cls, *_: object, **__: object) -> Any:
        """An empty list."""
        return []


def named(name: str, kind: type) -> type:
    """A class of its own for each name, as PyTorch knows an allowed type by its module and name."""
    module, _, short = name.rpartition(".")
    return type(short, (kind,), {"__module__": module, "__qualname__": short})


def name_of(made: object) -> str:
    """The name that an inert object's class was made for.

    >>> name_of(named("mytask.Net", Inert)())
    'mytask.Net'
    """
    return f"{type(made).__module__}.{type(made).__qualname__}"


def names_in(pickled: io.BytesIO) -> set[str]:
    """The classes and functions that the next pickle of a stream names, in Python 3's words; nothing of it is loaded.

    >>> import pickle
    >>> names_in(io.BytesIO(pickle.dumps({"shape": complex(1, 2)}, protocol=2)))
    {'builtins.complex'}
    """
    found = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            found.add(in_python_3(module, name))
    return found


def in_python_3(module: str, name: str) -> str:
    """A dotted name, where it is Python 2's that of Python 3, as pickles before protocol 3 have them.

    >>> in_python_3("__builtin__", "xrange"), in_python_3("mytask", "Net")
    ('builtins.range', 'mytask.Net')
    """
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def refused(names: Iterable[str]) -> list[str]:
    """Those of the names that no network needs: functions of Python itself and of its library that act, such as `eval` and `os.system`.

    >>> refused(["functools.partial", "builtins.eval", "torch.nn.modules.linear.Linear"])
    ['builtins.eval']
    """
    return sorted(name for name in names if _is_refused(name))


def foreign(names: Iterable[str]) -> list[str]:
    """Those of the names that are neither Python's nor PyTorch's nor NumPy's; all where there is no other.

    >>> foreign(["torch._utils._rebuild_tensor_v2", "mytask.Config", "collections.OrderedDict"])
    ['mytask.Config']
    """
    roots = {"torch", "numpy", *sys.stdlib_module_names}
    return sorted(name for name in names if name.partition(".")[0] not in roots) or sorted(names)


def _is_refused(name: str) -> bool:
    root = name.partition(".")[0]
    return root in sys.stdlib_module_names and root not in _HARMLESS and name not in _PLAIN


def plain_mapping(value: object) -> Mapping[Any, Any] | None:
    """An inert object's attributes; None where its class kept them in a way of its own."""
    state = value.state if isinstance(value, Inert) else None
    if isinstance(state, tuple) and len(state) == 2:  # of a class with slots
        state = state[0]
    return state if isinstance(state, Mapping) else None
