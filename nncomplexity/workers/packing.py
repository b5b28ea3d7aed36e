"""Functions, networks and results as bytes for another process.

A function of an importable module is sent by its name, and the worker imports the module. A function that a worker can't import, such as a
lambda or a function from a notebook or standard input, is sent by value, with all that it uses; this needs the package cloudpickle.
"""

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch import UntypedStorage
from torch.storage import TypedStorage

from nncomplexity.words import error_line
from nncomplexity.workers.parametrized import reduced

_MAIN = b"__main__"


class CannotPackError(Exception):
    """An object can't be sent to another process. The text has the reason, and what to do."""


def packed(given: object, *, main_is_known: bool = False) -> bytes:
    """The object as bytes for `unpacked`, in another process with the same packages.

    Tensors that share memory also share it afterwards, so ties are preserved.

    Args:
        given: any object.
        main_is_known: whether the other process has imported this program's `__main__`, so that its functions are sent by name.

    Returns:
        The bytes.

    Raises:
        CannotPackError: the object can't be sent.

    >>> row = torch.arange(6.0)
    >>> one, other = unpacked(packed((row, row[2:])))
    >>> other[0] = 7
    >>> one[2].item()
    7.0
    """
    try:
        content = _dumped(given, _ByName)
        if main_is_known or _MAIN not in content:
            return content
        reason = "it belongs to a notebook, to standard input or to a script, which workers can't import"
    except Exception as error:  # pickle may raise anything, because it runs code of the object
        reason = error_line(error)
    try:
        return _dumped(given, _by_value())
    except ImportError:
        raise CannotPackError(
            f"{reason}; install cloudpickle, or define it at the top of a module and name it as MODULE:FUNCTION"
        ) from None
    except Exception as error:
        raise CannotPackError(f"{error_line(error)}; define it at the top of a module, and leave out what can't be sent") from None


def unpacked(content: bytes) -> Any:
    """The object from `packed`. Use it only for bytes from this program, because unpickling runs code."""
    storages, inner = pickle.loads(content)
    return _WithStorages(inner, [_storage(*one) for one in storages]).load()


def main_is_a_file() -> bool:
    """Whether `__main__` is a script or a module, which new processes can import, and not a notebook, a prompt or standard input."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or (file is not None and Path(file).is_file())


class _Storages:
    """The part of a pickler that stores the memory of tensors separately, each memory once."""

    def __init__(self) -> None:
        self.found: list[UntypedStorage] = []
        self._places: dict[tuple[str, int], int] = {}

    def place(self, given: object) -> tuple[int, torch.dtype] | None:
        if not isinstance(given, TypedStorage):
            return None
        memory = given._untyped_storage
        # Empty tensors have no address, and share nothing.
        key = (str(memory.device), memory.data_ptr() or -len(self.found) - 1)
        if key not in self._places:
            self._places[key] = len(self.found)
            self.found.append(memory)
        return self._places[key], given.dtype


class _ByName(pickle.Pickler):
    def __init__(self, file: io.BytesIO, storages: _Storages) -> None:
        super().__init__(file)
        self._storages = storages

    def persistent_id(self, given: object) -> Any:
        return self._storages.place(given)

    def reducer_override(self, given: object) -> Any:
        return reduced(given)


def _by_value() -> type[Any]:
    """The same with cloudpickle's pickler. Raises ImportError without that package."""
    import cloudpickle  # type: ignore[import-untyped,import-not-found,unused-ignore]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self, file: io.BytesIO, storages: _Storages) -> None:
            super().__init__(file)
            self._storages = storages

        def persistent_id(self, given: object) -> Any:
            return self._storages.place(given)

        def reducer_override(self, given: object) -> Any:
            found = reduced(given)
            return super().reducer_override(given) if found is NotImplemented else found

    return Pickler


class _WithStorages(pickle.Unpickler):
    def __init__(self, content: bytes, storages: list[UntypedStorage]) -> None:
        super().__init__(io.BytesIO(content))
        self._storages = storages

    def persistent_load(self, place: tuple[int, torch.dtype]) -> TypedStorage:
        typed: Any = TypedStorage
        memory: TypedStorage = typed(wrap_storage=self._storages[place[0]], dtype=place[1], _internal=True)
        return memory


def _dumped(given: object, pickler: type[Any]) -> bytes:
    file, storages = io.BytesIO(), _Storages()
    pickler(file, storages).dump(given)
    return pickle.dumps(([_bytes_of(memory) for memory in storages.found], file.getvalue()))


def _bytes_of(memory: UntypedStorage) -> tuple[str, bytes]:
    numbers = torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)
    return str(memory.device), numbers.cpu().numpy().tobytes()


def _storage(device: str, content: bytes) -> UntypedStorage:
    numbers = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8, device="cpu")
    )
    return numbers.to(device).untyped_storage()
