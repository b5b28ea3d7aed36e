"""NumPy arrays instead of tensors: `.npz` archives, and pickles of dictionaries of arrays.

A pickle is read by an unpickler that knows only a dozen names, and that uses its own class for each of them. So no function that the file names
is ever called. The arrays are made here from the bytes, with checks.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nncomplexity.checkpoint.archive import check_records
from nncomplexity.checkpoint.contents import Contents
from nncomplexity.checkpoint.pickled import chosen_of
from nncomplexity.checkpoint.placeholders import in_python_3
from nncomplexity.checkpoint.stepkeys import AMONG_WEIGHTS, number_in
from nncomplexity.checkpoint.training_state import PLAIN_DTYPE, DtypeName, plain_classes
from nncomplexity.errors import FormatError, InputError
from nncomplexity.words import listed

_REMEDY = "where it was made, write the arrays alone: numpy.savez(FILE, **arrays)"
_NO_TENSOR = "left out arrays that can't be tensors"


class _Array:
    """The class for arrays. A pickle makes an empty array and then sets its state, or makes the array from its bytes at once."""

    def __init__(self, data: object = None, dtype: object = None, shape: object = None, order: object = None) -> None:
        self.value = _array(data, dtype, shape, order)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, by_columns, data = state
            self.value = _array(data, dtype, shape, "F" if by_columns else "C")


def is_arrays(content: bytes) -> bool:
    """Whether a zip archive was written by `numpy.savez`: it contains arrays and nothing else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_archive(file: Path, content: bytes) -> Contents:
    """The arrays of an .npz archive as tensors. Raises FormatError if it is damaged, and InputError if no array can be a tensor."""
    tensors: dict[str, Tensor] = {}
    left_out = []
    try:
        check_records(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    tensor = _tensor(archive[name])
                except ValueError:  # an array of objects is a pickle
                    tensor = None
                if tensor is None:
                    left_out.append(name)
                else:
                    tensors[name] = tensor
    except Exception as error:  # a damaged entry can cause any exception
        raise FormatError(f"{file}: an .npz archive that is cut or damaged; fetch it again ({str(error)[:120]})") from error
    if not tensors:
        raise InputError(f"{file}: expected arrays of numbers in it, got {listed(left_out)}, which can't be tensors; {_REMEDY}")
    numbers = {name: value for name in AMONG_WEIGHTS & tensors.keys() if (value := number_in(tensors[name])) is not None}
    notes = (f"{_NO_TENSOR}: {listed(left_out)}",) if left_out else ()
    return Contents(tensors, {}, counters=numbers, notes=notes)


def read_arrays(file: Path, content: bytes, key: str | None) -> Contents:
    """The arrays in a pickle as tensors. They are in the pickled dictionary, or in a dictionary inside it.

    Raises:
        InputError: the file names other types than NumPy's arrays and Python's basic types, or has no dictionary of arrays.
        FormatError: the file is damaged.
    """
    try:
        found = _Unpickler(file, content).load()
    except InputError:
        raise
    except Exception as error:
        detail = next(iter(str(error).splitlines()), type(error).__name__)
        raise FormatError(
            f"{file}: a pickle that torch.save did not write, or a damaged one; {_REMEDY} ({detail[:120]})"
        ) from error
    given = _with_tensors(found, {})
    if not isinstance(given, Mapping) or not _holds_tensors(given, set()):
        raise FormatError(f"{file}: a pickle that torch.save did not write, without arrays by name in it; {_REMEDY}")
    return chosen_of(given, key, str(file), ["read a pickle of arrays"])


class _Unpickler(pickle._Unpickler):
    """An unpickler written in Python. The one in C allocates memory for any number of objects that a damaged file claims to have."""

    def __init__(self, file: Path, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._file = file
        self._known = known_names()

    def find_class(self, module: str, name: str) -> Any:
        full = in_python_3(module, name)
        if full not in self._known:
            raise InputError(
                f"{self._file}: a pickle that torch.save did not write; it asks for {full}, which is not loaded because that can run code; "
                f"{_REMEDY}"
            )
        return self._known[full]


def known_names() -> dict[str, Any]:
    """The names that a pickle of arrays may use, and their classes. The classes are new for each file, so that no file can change them."""
    array = type("Array", (_Array,), {})
    made: dict[str, Any] = {"_codecs.encode": lambda *given: _encoded(*given), "collections.OrderedDict": OrderedDict}
    made["builtins.bytes"] = lambda *_: b""  # pickles before protocol 3 have an empty bytes object as this call
    for core in ("core", "_core"):
        made[f"numpy.{core}.multiarray._reconstruct"] = lambda *_: array()
        made[f"numpy.{core}.numeric._frombuffer"] = lambda *given: array(*given)
    return plain_classes() | made


def _encoded(text: object, encoding: object = None) -> bytes:
    """The bytes that a pickle before protocol 3 stores as a text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _array(data: object, dtype: object, shape: object, order: object) -> NDArray[Any] | None:
    """The array of these bytes; None if it is not an array of numbers."""
    name = f"{dtype.order}{dtype.name}" if isinstance(dtype, DtypeName) else ""
    if not PLAIN_DTYPE.fullmatch(name) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        return None
    if not isinstance(shape, tuple) or not all(isinstance(extent, int) and extent >= 0 for extent in shape):
        return None
    # numpy.frombuffer refuses an empty buffer.
    flat = np.frombuffer(data, name) if data else np.zeros(0, name)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _tensor(array: NDArray[Any]) -> Tensor | None:
    """A copy of an array as a tensor; None for a dtype that PyTorch does not have."""
    # PyTorch knows only this machine's byte order, and no negative strides.
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        return None


def _with_tensors(value: Any, done: dict[int, Any]) -> Any:
    """The same dictionaries with a tensor for each array. An array that occurs twice is one tensor."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        made: dict[Any, Any] = {}
        # Before its entries, because a dictionary may contain itself.
        done[id(value)] = made
        made |= {name: _with_tensors(inner, done) for name, inner in value.items()}
        return made
    if isinstance(value, _Array):
        done[id(value)] = None if value.value is None else _tensor(value.value)
        value.value = None  # frees the bytes, of which the tensor has a copy
        return done[id(value)]
    return value


def _holds_tensors(value: Mapping[Any, Any], seen: set[int]) -> bool:
    seen.add(id(value))
    inner = [one for one in value.values() if isinstance(one, Mapping) and id(one) not in seen]
    return any(isinstance(one, Tensor) for one in value.values()) or any(_holds_tensors(one, seen) for one in inner)
