"""The `.coarse` file: skeleton, payload and checksum in one frame. docs/format.md is the specification."""

import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import Tensor

from nncomplexity.coarse import CoarseTensor
from nncomplexity.codecs.contract import Codec
from nncomplexity.errors import FormatError, InputError
from nncomplexity.payload import decode, encode
from nncomplexity.weights import STORED, Skeleton, TensorSpec, complex_view

MAGIC = b"\x89COARSE\n"
VERSION = 1
_HEAD = struct.Struct("<8sHIQ")
_DIGEST = hashlib.sha256().digest_size
_DIMENSIONS = 64
_EXTENTS = 1 << 48
"""Shapes are kept within what numpy and torch can hold, so that their sizes can be worked out at all."""
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORED}
DEFAULT_LIMIT = 1 << 30
"""Bytes of decoded weights that a reader accepts unless told otherwise."""


@dataclass(frozen=True)
class CoarseFile:
    """A file's content: what was coded, by which codec, and the bytes themselves. Coarse tensors are those of `skeleton.real`."""

    skeleton: Skeleton
    tensors: tuple[CoarseTensor, ...]
    codec: Codec
    payload: bytes
    content: bytes

    @property
    def bits(self) -> int:
        """8 × the payload's length in bytes: the bits that count."""
        return 8 * len(self.payload)

    @property
    def file_bits(self) -> int:
        """Bits of the whole file, skeleton and checksum included."""
        return 8 * len(self.content)

    def weights(self) -> dict[str, Tensor]:
        """The decoded tensors under all their names; bit-identical wherever they are decoded."""
        coded = zip(self.skeleton.tensors, self.tensors, strict=True)
        return self.skeleton.expand({spec.name: complex_view(coarse.decode(spec.real), spec.dtype) for spec, coarse in coded})


def write(skeleton: Skeleton, tensors: Sequence[CoarseTensor], codec: Codec) -> CoarseFile:
    """Encode, then decode what was encoded: the result holds what a reader will find, not what the writer was given."""
    payload = encode(skeleton, tensors, codec)
    names = _skeleton_json(skeleton)
    body = _HEAD.pack(MAGIC, VERSION, len(names), len(payload)) + names + payload
    return read(body + hashlib.sha256(body).digest(), limit=sys.maxsize)


def read(content: bytes, *, limit: int = DEFAULT_LIMIT) -> CoarseFile:
    """Decode a file's bytes, from whomever they come.

    Time and memory are bounded by the file's length and `limit`, the most bytes of weights to make. Raises FormatError saying what
    is wrong with the file.
    """
    if not content.startswith(MAGIC):
        raise FormatError(f"no .coarse file: expected it to begin with {MAGIC!r}, got {content[:8]!r}")
    if len(content) < _HEAD.size:
        raise FormatError(f".coarse file is cut: its header takes {_HEAD.size} bytes, got {len(content)}")
    _, version, skeleton_length, payload_length = _HEAD.unpack_from(content)
    if version != VERSION:
        raise FormatError(f".coarse version {version}: this program reads version {VERSION}; use the one that wrote the file")
    expected = _HEAD.size + skeleton_length + payload_length + _DIGEST
    if len(content) != expected:
        state = "cut" if len(content) < expected else "followed by something else"
        raise FormatError(f".coarse file is {state}: its header promises {expected} bytes, got {len(content)}")
    body = content[:-_DIGEST]
    if hashlib.sha256(body).digest() != content[-_DIGEST:]:
        raise FormatError(".coarse file is damaged: its checksum does not match; fetch it again")
    skeleton = _parse_skeleton(body[_HEAD.size : _HEAD.size + skeleton_length])
    size = sum(prod(max(extent, 1) for extent in spec.shape) * spec.dtype.itemsize for spec in skeleton.tensors)
    if size > limit:
        raise FormatError(
            f".coarse file decodes to {size} bytes of weights, above the limit of {limit}; raise it if you trust the file"
        )
    payload = body[_HEAD.size + skeleton_length :]
    codec, tensors = decode(skeleton, payload)
    return CoarseFile(skeleton, tuple(tensors), codec, payload, content)


def load(path: str | os.PathLike[str], *, limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Decode a `.coarse` file to its tensors by name; tied names share one tensor. Raises InputError where it isn't such a file."""
    return read_file(path, limit=limit).weights()


def read_file(path: str | os.PathLike[str], *, limit: int = DEFAULT_LIMIT) -> CoarseFile:
    """Read and decode a `.coarse` file, see `read`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror}); name a .coarse file") from error
    try:
        return read(content, limit=limit)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def save_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `path` whole or not at all: a temporary file beside it, then a rename. Raises InputError where it can't be written."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot write there ({error.strerror}); name a folder that exists") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{target}: cannot write it ({error.strerror})") from error
        raise


def _skeleton_json(skeleton: Skeleton) -> bytes:
    entries = [[list(spec.names), str(spec.dtype).removeprefix("torch."), list(spec.shape)] for spec in skeleton.tensors]
    for _, dtype, _ in entries:
        if dtype not in _DTYPES:
            raise InputError(f"weights: tensors of dtype {dtype} have no form in a file; expected one of {', '.join(_DTYPES)}")
    try:
        return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"weights: the name of a tensor is no Unicode text ({error.reason}); rename it") from error


def _parse_skeleton(text: bytes) -> Skeleton:
    try:
        entries = json.loads(text)
        skeleton = Skeleton(
            tuple(
                TensorSpec(tuple(_name(name) for name in names), _shape(shape), _DTYPES[dtype]) for names, dtype, shape in entries
            )
        )
        if _skeleton_json(skeleton) != text:
            raise ValueError("it is spelled otherwise, which could hide something")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"skeleton is not what a writer makes ({type(error).__name__}: {error!s:.80})") from error
    every = [name for spec in skeleton.tensors for name in spec.names]
    if not all(spec.names for spec in skeleton.tensors) or len(set(every)) != len(every):
        raise FormatError("skeleton names a tensor twice or not at all")
    return skeleton


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is {name!r:.40}")
    return name


def _shape(shape: list[object]) -> tuple[int, ...]:
    if len(shape) > _DIMENSIONS:
        raise ValueError(f"a shape has {len(shape)} dimensions")
    return tuple(_extent(extent) for extent in shape)


def _extent(extent: object) -> int:
    if not isinstance(extent, int) or isinstance(extent, bool) or not 0 <= extent < _EXTENTS:
        raise TypeError(f"a shape holds {extent!r:.40}")
    return extent
