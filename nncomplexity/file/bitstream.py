"""The `.coarse` file: skeleton, payload and checksum in one frame. docs/format.md is the specification."""

import hashlib
import json
import os
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from torch import Tensor, nn

from nncomplexity.codecs import VERSION, Codec
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file.coarse import CoarseTensor, decoded_together
from nncomplexity.file.payload import decode, encode
from nncomplexity.file.reading import read_settled
from nncomplexity.linalg import usual_switches
from nncomplexity.network import DIMENSIONS, STORED, Base, Skeleton, TensorSpec, base_of, complex_view
from nncomplexity.words import is_number, path_of, python_number, shown

MAGIC = b"\x89COARSE\n"
_HEAD = struct.Struct("<8sHIQ")
"""The magic bytes, the version, and the lengths of the skeleton and of the payload."""
_DIGEST = hashlib.sha256().digest_size
_EXTENTS = 1 << 48
"""A shape with an extent of this or more is refused."""
_LEAST = 4
"""Each element counts for at least this number of bytes towards `limit`, because its symbol takes memory too."""
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORED}
DEFAULT_LIMIT = 1 << 30
"""The default limit of a reader: bytes of decoded weights."""


@dataclass(frozen=True)
class CoarseFile:
    """The content of a file: the coarse tensors of `skeleton.real`, the codec, and the bytes."""

    skeleton: Skeleton
    tensors: tuple[CoarseTensor, ...]
    codec: Codec
    payload: bytes
    content: bytes
    base_sha256: str | None = None
    """The digest of the base, if the tensors are differences from one; otherwise None."""
    base: Base | None = field(default=None, repr=False)
    """The base itself, if `on` was called with it. The specifications in `skeleton` then have the base's tensors."""
    version: int = VERSION
    """The version of the format."""

    def __repr__(self) -> str:
        return f"CoarseFile({self.bits} bits, {len(self.tensors)} tensors, codec {self.codec.name!r})"

    @property
    def bits(self) -> int:
        """The complexity in bits: 8 × the payload's length in bytes."""
        return 8 * len(self.payload)

    @property
    def file_bits(self) -> int:
        """Bits of the whole file, with skeleton and checksum."""
        return 8 * len(self.content)

    @usual_switches()
    def weights(self) -> dict[str, Tensor]:
        """The decoded tensors under all their names. They have the same bits on every machine.

        Raises:
            InputError: the file is relative to a base, and `on` was not called with it.
        """
        if self.base_sha256 is not None and self.base is None:
            self.on(None)
        decoded = decoded_together(self.skeleton.real.tensors, self.tensors)
        return self.skeleton.expand(
            {spec.name: complex_view(_by_itself(decoded[spec.name]), spec.dtype) for spec in self.skeleton.tensors}
        )

    def on(self, base: Base | None) -> "CoarseFile":
        """The file together with its base; `base` is None for a file without one.

        Raises:
            InputError: the digest of the base is not the one in the file.
        """
        came = None if base is None else base.sha256
        if came == self.base_sha256:
            return self if base is None else replace(self, skeleton=base.under(self.skeleton, self.version), base=base)
        where = "" if base is None or base.path is None else f" ({base.path})"
        if self.base_sha256 is None:
            raise InputError(f"base: expected none, as the file is relative to no base, got one{where}; leave it out")
        wanted = f"base: expected the tensors that the file is relative to, of sha256 {self.base_sha256}"
        if base is None:
            raise InputError(f"{wanted}, got none; give it as base=, on the command line as --base CHECKPOINT")
        raise InputError(f"{wanted}, got those of {came}{where}; name the checkpoint that it was measured relative to")


def _by_itself(tensor: Tensor) -> Tensor:
    """The tensor in its own memory. A view of shared memory can't be written to other formats, and keeps the whole memory alive."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


@usual_switches()
def write(skeleton: Skeleton, tensors: Sequence[CoarseTensor], codec: Codec, base: Base | None = None) -> CoarseFile:
    """Encode the tensors, and decode the result. So the returned file has the tensors that a reader will get, even if the encoder has a fault.

    Args:
        skeleton: names, shapes, dtypes and ties.
        tensors: one coarse tensor for each tensor of `skeleton.real`. For a tensor with a base, it is the difference from the base.
        codec: the codec of the payload.
        base: the base, if the tensors are relative to one.

    Returns:
        The file.
    """
    payload = encode(skeleton, tensors, codec)
    names = _skeleton_json(skeleton, None if base is None else base.sha256)
    body = _HEAD.pack(MAGIC, VERSION, len(names), len(payload)) + names + payload
    return _read(body + hashlib.sha256(body).digest(), limit=sys.maxsize, checked=False).on(base)


@usual_switches()
def read(content: bytes, *, limit: int = DEFAULT_LIMIT) -> CoarseFile:
    """Decode the bytes of a file, also from an untrusted source.

    A file that is relative to a base gets the base by `CoarseFile.on`. Only `weights` needs it.

    Args:
        content: the bytes.
        limit: the largest number of bytes of decoded weights. Together with the file's length, it bounds time and memory.

    Returns:
        The file.

    Raises:
        FormatError: the bytes are not a valid file.
        InputError: the limit is not a number of at least 0.
    """
    limit = python_number(limit)
    if not is_number(limit) or limit < 0:
        raise InputError(f"limit: expected a number of bytes, at least 0, got {shown(limit)}")
    return _read(content, limit=limit, checked=True)


def _read(content: bytes, *, limit: float, checked: bool) -> CoarseFile:
    """`read`. If `checked` is False, the end of the payload is not checked: for bytes that were just encoded."""
    if not content.startswith(MAGIC):
        raise FormatError(f"no .coarse file: expected it to begin with {MAGIC!r}, got {content[:8]!r}")
    if len(content) < _HEAD.size:
        raise FormatError(f".coarse file is cut: its header takes {_HEAD.size} bytes, got {len(content)}")
    _, version, skeleton_length, payload_length = _HEAD.unpack_from(content)
    if not 1 <= version <= VERSION:
        raise FormatError(
            f".coarse version {version}: this program reads versions 1 and {VERSION}; use the one that wrote the file"
        )
    expected = _HEAD.size + skeleton_length + payload_length + _DIGEST
    if len(content) != expected:
        state = "cut" if len(content) < expected else "followed by something else"
        raise FormatError(f".coarse file is {state}: its header promises {expected} bytes, got {len(content)}")
    body = content[:-_DIGEST]
    # The checksum is checked before the content is parsed. So damage is reported as damage, and not as some error of the parser.
    if hashlib.sha256(body).digest() != content[-_DIGEST:]:
        raise FormatError(".coarse file is damaged: its checksum does not match; fetch it again")
    skeleton, base_sha256 = _parse_skeleton(body[_HEAD.size : _HEAD.size + skeleton_length])
    # The symbols of a tensor with 8 or 16 bits take more memory than the tensor. An extent of 0 counts as 1, because empty tensors
    # with other large extents take time too.
    size = sum(prod(max(extent, 1) for extent in spec.shape) * max(spec.dtype.itemsize, _LEAST) for spec in skeleton.tensors)
    # Checked before anything is decoded: a few bytes can describe terabytes of zeros.
    if size > limit:
        raise FormatError(
            f".coarse file decodes to {size} bytes of weights, above the limit of {limit}; raise it if you trust the file"
        )
    payload = body[_HEAD.size + skeleton_length :]
    codec, tensors = decode(skeleton, payload, version, checked=checked)
    return CoarseFile(skeleton, tuple(tensors), codec, payload, content, base_sha256, version=version)


def load(
    path: str | os.PathLike[str], *, base: nn.Module | Mapping[str, Tensor] | Base | None = None, limit: int = DEFAULT_LIMIT
) -> dict[str, Tensor]:
    """Decode a `.coarse` file to its tensors by name; tied names share one tensor.

    Args:
        path: the file.
        base: the module or tensors that the file is relative to; None for a file without a base.
        limit: the largest number of bytes of decoded weights.

    Returns:
        The decoded tensors by name; tied names share one tensor.

    Raises:
        InputError: it isn't a `.coarse` file, it has another base, or the limit is not a number.
    """
    file = read_file(path, limit=limit)
    # A digest takes time, so it is computed only if `base` doesn't have it already.
    given = base if base is None or isinstance(base, Base) else base_of(base)
    try:
        return file.on(given).weights()
    except InputError as error:
        # Of the same class, because a damaged file is a FormatError.
        raise type(error)(f"{path}: {error}") from error


def read_file(path: str | os.PathLike[str], *, limit: int = DEFAULT_LIMIT) -> CoarseFile:
    """Read and decode a `.coarse` file, see `read`."""
    file = path_of(path)
    content = read_settled(lambda reading: reading.content(file), str(path), "a .coarse file")
    try:
        return read(content, limit=limit)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def _skeleton_json(skeleton: Skeleton, base_sha256: str | None = None) -> bytes:
    entries = [[list(spec.names), str(spec.dtype).removeprefix("torch."), list(spec.shape)] for spec in skeleton.tensors]
    for _, dtype, _ in entries:
        if dtype not in _DTYPES:
            raise InputError(f"weights: tensors of dtype {dtype} have no form in a file; expected one of {', '.join(_DTYPES)}")
    try:
        head = [] if base_sha256 is None else [{"base": base_sha256}]
        return json.dumps([*head, *entries], separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"weights: the name of a tensor is not valid Unicode ({error.reason}); rename the tensor") from error


def _parse_skeleton(text: bytes) -> tuple[Skeleton, str | None]:
    """The skeleton, and the digest of the base; None for a file without a base."""
    try:
        entries = json.loads(text)
        base = entries.pop(0)["base"] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else None
        if base is not None and not re.fullmatch("[0-9a-f]{64}", base):
            raise ValueError(f"the base's digest is {base!r:.40}")
        skeleton = Skeleton(
            tuple(
                TensorSpec(tuple(_name(name) for name in names), _shape(shape), _DTYPES[dtype]) for names, dtype, shape in entries
            )
        )
        # Each skeleton has exactly one text. Spaces or another order could carry information for which no bits are counted.
        if _skeleton_json(skeleton, base) != text:
            raise ValueError("it is spelled otherwise, which could hide something")
        if any(len(spec.real.shape) > DIMENSIONS for spec in skeleton.tensors):
            raise ValueError(f"a complex tensor has {DIMENSIONS} dimensions, and its real and imaginary parts one more")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"skeleton is not what a writer makes ({type(error).__name__}: {error!s:.80})") from error
    every = [name for spec in skeleton.tensors for name in spec.names]
    if not all(spec.names for spec in skeleton.tensors) or len(set(every)) != len(every):
        raise FormatError("skeleton names a tensor twice or not at all")
    return skeleton, base


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is {name!r:.40}")
    return name


def _shape(shape: list[object]) -> tuple[int, ...]:
    if len(shape) > DIMENSIONS:
        raise ValueError(f"a shape has {len(shape)} dimensions")
    return tuple(_extent(extent) for extent in shape)


def _extent(extent: object) -> int:
    if not isinstance(extent, int) or isinstance(extent, bool) or not 0 <= extent < _EXTENTS:
        raise TypeError(f"a shape holds {extent!r:.40}")
    return extent
