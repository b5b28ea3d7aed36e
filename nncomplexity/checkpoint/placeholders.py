"""Placeholders for the classes and functions that a pickle names. They keep the data that they get, and do nothing with it.

A file of `torch.save` may contain objects of any class: whole modules, options, enumerations. Their data can be read without their code. Each
name gets a class of this module, from which `torch.load(weights_only=True)` makes objects. The state of an object stays a dictionary.
"""

import io
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

_HARMLESS_MODULES = frozenset(
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
"""Modules of Python's standard library that checkpoints may name. A file that names another one could run code, and is refused."""
# Types such as `list[int]` and `int | str`, in the options of structured configurations, are pickled as calls of operators.
_HARMLESS_NAMES = frozenset(("_codecs.encode", "_operator.getitem", "_operator.or_", "operator.getitem", "operator.or_")) | {
    f"builtins.{name}"
    for name in (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice"),
        *("str", "tuple", "type", "Ellipsis", "NotImplemented"),
    )
}
"""Harmless names from other modules."""


class Inert:
    """The placeholder for an object of a class that the file names, or for the result of a function that it names.

    Attributes:
        state: the state in the file, mostly the attributes by name; None if there is none.
    """

    state: object = None

    def __new__(cls, *_: object, **__: object) -> Any:
        """Take any arguments, and keep none of them."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, name: object, value: object) -> None:
        """Ignore an item. Some versions of PyTorch set items without checking that the object is a dictionary."""


class InertMapping(Inert):
    """The placeholder for a class that is a dictionary. It is an `OrderedDict`, because PyTorch fills no other classes."""

    def __new__(cls, *_: object, **__: object) -> Any:
        """An empty ordered dictionary."""
        return OrderedDict()  # not a dict: the file may also set attributes, and a dict has none


class InertList(Inert):
    """The placeholder for a class that is a list."""

    def __new__(cls, *_: object, **__: object) -> Any:
        """An empty list."""
        return []


def named(name: str, kind: type) -> type:
    """A class with this name. Each name needs its own, because PyTorch identifies an allowed type by its module and name."""
    module, _, short = name.rpartition(".")
    return type(short, (kind,), {"__module__": module, "__qualname__": short})


def name_of(made: object) -> str:
    """The name of the class that a placeholder stands for.

    >>> name_of(named("mytask.Net", Inert)())
    'mytask.Net'
    """
    return f"{type(made).__module__}.{type(made).__qualname__}"


def names_in(pickled: io.BytesIO) -> set[str]:
    """The classes and functions that the next pickle of a stream names, by their names in Python 3. Nothing is loaded.

    >>> import pickle
    >>> names_in(io.BytesIO(pickle.dumps({"shape": complex(1, 2)}, protocol=2)))
    {'builtins.complex'}
    """
    found = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        # torch.save writes protocol 2, where every name is a GLOBAL. The safe reader refuses the STACK_GLOBAL of later protocols.
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            found.add(in_python_3(module, name))
    return found


def in_python_3(module: str, name: str) -> str:
    """A dotted name. A name of Python 2, as pickles before protocol 3 have, becomes that of Python 3.

    >>> in_python_3("__builtin__", "xrange"), in_python_3("mytask", "Net")
    ('builtins.range', 'mytask.Net')
    """
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def refused(names: Iterable[str]) -> list[str]:
    """The names that can run code and that no network needs: functions of Python and its library, such as `eval` and `os.system`.

    >>> refused(["functools.partial", "builtins.eval", "torch.nn.modules.linear.Linear"])
    ['builtins.eval']
    """
    return sorted(name for name in names if _is_refused(name))


def foreign(names: Iterable[str]) -> list[str]:
    """The names that are not from Python, PyTorch or NumPy; all names if there is no such name.

    >>> foreign(["torch._utils._rebuild_tensor_v2", "mytask.Config", "collections.OrderedDict"])
    ['mytask.Config']
    """
    roots = {"torch", "numpy", *sys.stdlib_module_names}
    return sorted(name for name in names if name.partition(".")[0] not in roots) or sorted(names)


def _is_refused(name: str) -> bool:
    root = name.partition(".")[0]
    return root in sys.stdlib_module_names and root not in _HARMLESS_MODULES and name not in _HARMLESS_NAMES


def plain_mapping(value: object) -> Mapping[Any, Any] | None:
    """The attributes of an object that a placeholder stands for; None if its class stores them in another form."""
    state = value.state if isinstance(value, Inert) else None
    if isinstance(state, tuple) and len(state) == 2:  # a class with slots has a pair: its dictionary and its slots
        state = state[0]
    return state if isinstance(state, Mapping) else None
