"""What training loops keep beside the weights: numbers of NumPy, options, paths, dates. It is read without calling its own types.

`torch.load(weights_only=True)` refuses a whole file for one NumPy number in it, such as the best accuracy so far. Allowing it NumPy's
functions would be a hole: a dtype from a pickle says itself at which bytes of an array there are pointers. Nothing beside the weights
is needed but what is plain, so each name here stands for a class of this module, which takes whatever a file gives it and does nothing
with it: a number becomes Python's, a container a plain one, and all else an object that holds nothing. Other names are refused, unless
the caller has stand-ins for them, too.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from nncomplexity.checkpoint.placeholders import named


class _Nothing:
    """Made of anything, and holds none of it."""

    def __new__(cls, *_: object) -> Any:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """As an object without it would get the attributes that the file names."""


class _Text(str):
    """A text of some class, as `torch.__version__` is."""

    def __setstate__(self, _: object) -> None:
        """As above."""


class _Dictionary:
    def __new__(cls, *_: object) -> Any:
        return {}


class _List:
    def __new__(cls, *_: object) -> Any:
        return []


class DtypeName(_Nothing):
    """A dtype's name and byte order; of what else a file says of it, nothing is taken."""

    name: object = None
    order: object = "="

    def __new__(cls, name: object = None, *_: object) -> Any:
        """Keep the name, and nothing else of what the file gives."""
        made = super().__new__(cls)
        made.name = name
        return made

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class _Scalar:
    """A number or text of NumPy's, as Python's; nothing where it is of another dtype."""

    def __new__(cls, dtype: object = None, data: object = None, *_: object) -> Any:
        name = f"{dtype.order}{dtype.name}" if isinstance(dtype, DtypeName) else ""
        if not (PLAIN_DTYPE.fullmatch(name) and isinstance(data, bytes) and len(data) == np.dtype(name).itemsize):
            return _Nothing()
        return np.frombuffer(data, name)[0].item()


PLAIN_DTYPE = re.compile(r"[<>=](b1|[iu][1248]|f[248]|c8|c16|U[1-9][0-9]{0,3})")
"""Dtypes whose bytes are numbers or text, whatever they are."""

_STAND_INS: dict[type, tuple[str, ...]] = {
    # NumPy 2 renamed numpy.core
    _Scalar: ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    DtypeName: ("numpy.dtype",),
    _Text: ("torch.torch_version.TorchVersion",),
    _Dictionary: ("collections.defaultdict",),
    _List: ("collections.deque",),
    _Nothing: (
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        # what a defaultdict is made with
        "builtins.bool",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.str",
        "builtins.tuple",
        "builtins.frozenset",
        "builtins.range",
        "builtins.slice",
        "argparse.Namespace",
        "types.SimpleNamespace",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "uuid.UUID",
        # Python 3.13 moved the paths
        *(
            f"{module}.{system}Path"
            for module in ("pathlib", "pathlib._local")
            for system in ("", "Posix", "PurePosix", "Pure", "PureWindows", "Windows")
        ),
    ),
}


def plain_classes() -> dict[str, type]:
    """The names above, each with a class of its own."""
    return {name: named(name, kind) for kind, names in _STAND_INS.items() for name in names}


_ALLOWED = plain_classes()

_one_at_a_time = threading.Lock()
"""What PyTorch allows is one list for the whole process."""


@contextmanager
def stand_ins(more: Iterable[type] = ()) -> Iterator[None]:
    """For the time of a `torch.load(weights_only=True)`, the names above stand for the classes above, and those of `more` for themselves.

    What the caller's program has allowed is allowed still; where it has allowed one of these names itself, the type here goes first,
    since NumPy's functions and these can't be mixed in one file.

    >>> import io, numpy, torch
    >>> file = io.BytesIO()
    >>> torch.save({"best": numpy.float64(0.97), "rng": numpy.random.get_state()}, file)
    >>> _ = file.seek(0)
    >>> with stand_ins():
    ...     torch.load(file, weights_only=True)["best"]
    0.97
    """
    with _one_at_a_time:
        theirs = [allowed for allowed in get_safe_globals() if _name(allowed) in _ALLOWED]
        taken = {_name(allowed) for allowed in get_safe_globals()} | _ALLOWED.keys()
        ours = [*_ALLOWED.values(), *(one for one in more if _name(one) not in taken)]
        _exchange(theirs, ours)
        try:
            yield
        finally:
            _exchange(ours, theirs)


def _exchange(away: Sequence[Any], given: Sequence[Any]) -> None:
    kept = [allowed for allowed in get_safe_globals() if not any(allowed is one for one in away)]
    clear_safe_globals()
    add_safe_globals([*kept, *given])


def _name(allowed: Callable[..., Any] | tuple[Callable[..., Any], str]) -> str:
    return allowed[1] if isinstance(allowed, tuple) else f"{allowed.__module__}.{allowed.__qualname__}"
