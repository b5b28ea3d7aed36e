"""Reads the other content of a training loop's checkpoint, such as NumPy numbers, options, paths and dates, without calling its types.

`torch.load(weights_only=True)` refuses a whole file if it has one NumPy number, such as the best accuracy so far. It would be unsafe to allow
NumPy's functions, because a dtype from a pickle can declare any bytes of an array to be pointers. So each name here gets a class of this
module. The class accepts any arguments, and does nothing with them: a number becomes a Python number, a container a basic container, and
everything else an empty object. Other names are refused, unless the caller has placeholders for them.
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
    """An object that accepts any arguments, and keeps none."""

    def __new__(cls, *_: object) -> Any:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Ignore the state. Without this method, the object would get the attributes that the file names."""


class _Text(str):
    """A subclass of text, for `torch.__version__`."""

    def __setstate__(self, _: object) -> None:
        """Ignore the state."""


class _Dictionary:
    def __new__(cls, *_: object) -> Any:
        return {}


class _List:
    def __new__(cls, *_: object) -> Any:
        return []


class DtypeName(_Nothing):
    """The name and the byte order of a dtype. Everything else that a file says about the dtype is ignored."""

    name: object = None
    order: object = "="

    def __new__(cls, name: object = None, *_: object) -> Any:
        """Keep the name, and ignore the other arguments."""
        made = super().__new__(cls)
        made.name = name
        return made

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class _Scalar:
    """A NumPy number or text as a Python one; an empty object for another dtype."""

    def __new__(cls, dtype: object = None, data: object = None, *_: object) -> Any:
        name = f"{dtype.order}{dtype.name}" if isinstance(dtype, DtypeName) else ""
        if not (PLAIN_DTYPE.fullmatch(name) and isinstance(data, bytes) and len(data) == np.dtype(name).itemsize):
            return _Nothing()
        return np.frombuffer(data, name)[0].item()


PLAIN_DTYPE = re.compile(r"[<>=](b1|[iu][1248]|f[248]|c8|c16|U[1-9][0-9]{0,3})")
"""Dtypes for which any bytes are valid numbers or texts."""

_STAND_INS: dict[type, tuple[str, ...]] = {
    # NumPy 2 renamed numpy.core, and files of both versions exist.
    _Scalar: ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    DtypeName: ("numpy.dtype",),
    _Text: ("torch.torch_version.TorchVersion",),
    _Dictionary: ("collections.defaultdict",),
    _List: ("collections.deque",),
    _Nothing: (
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        # The argument of a defaultdict may be one of these.
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
        # Python 3.13 moved the classes of paths.
        *(
            f"{module}.{system}Path"
            for module in ("pathlib", "pathlib._local")
            for system in ("", "Posix", "PurePosix", "Pure", "PureWindows", "Windows")
        ),
    ),
}


def plain_classes() -> dict[str, type]:
    """The names above, each with its class."""
    return {name: named(name, kind) for kind, names in _STAND_INS.items() for name in names}


_ALLOWED = plain_classes()

_one_at_a_time = threading.Lock()
"""A lock, because PyTorch has one list of allowed types for the whole process."""


@contextmanager
def stand_ins(more: Iterable[type] = ()) -> Iterator[None]:
    """A context in which `torch.load(weights_only=True)` uses the classes above for their names, and the classes in `more`.

    Types that the caller's program has allowed stay allowed. If it has allowed one of the names above, the class here is used, because NumPy's
    functions and these classes can't be mixed in one file.

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
