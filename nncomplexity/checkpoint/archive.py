"""Checks of a zip archive before it is read: its records are whole, their checksums are right, and they do not unpack to too many bytes.

PyTorch's reader does not check the checksums. Not all of its versions check the length of a record either: if a record is shorter than its
header says, the bytes after it would be read as weights.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from torch import Tensor, strided

from nncomplexity.errors import FormatError

_LEAST, _RATIO = 1 << 28, 32
"""A file may unpack to 256 MiB, or to 32 times its length if that is more. Compression makes weights at most about ten times smaller."""
_LOCAL = struct.Struct("<26xHH")
"""The header of a record: from it, the lengths of the name and of the extra field that follow."""
_PART = 1 << 20


def check_records(content: bytes) -> list[str]:
    """The names of the records in a zip archive.

    Raises:
        BadZipFile: the archive is damaged. A record is cut, overlaps another one or has a wrong checksum, a name occurs twice, or the
            records unpack to more than `allowance` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            names = [record.filename for record in records]
            if len(set(names)) < len(names):
                raise zipfile.BadZipFile("a record stands there twice")
            unpacked = sum(record.file_size for record in records)
            if unpacked > allowance(len(content)):
                raise zipfile.BadZipFile(f"it would unpack to {unpacked:,} bytes")
            _check_places(content, records, archive.start_dir)
            _check_sums(archive, records)
    except (ValueError, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error, struct.error, MemoryError) as error:
        raise zipfile.BadZipFile(str(error)) from error
    return names


def allowance(length: int) -> int:
    """The most bytes to which a file of this length may unpack.

    >>> allowance(1_000_000) == 2**28, allowance(10**9) == 32 * 10**9
    (True, True)
    """
    return max(_LEAST, _RATIO * length)


def check_unpacked(file: Path, tensors: Iterable[Tensor], length: int) -> None:
    """Check that tensors are not larger than the length of their file allows.

    With a stride of 0, a file of a few bytes can hold a tensor of any shape, whose elements are all the same number.

    Raises:
        FormatError: they are larger.
    """
    sizes = {id(one): one.numel() * one.element_size() for one in tensors if one.layout == strided}
    if sum(sizes.values()) > allowance(length):
        raise FormatError(
            f"{file}: its {length:,} bytes unpack to {sum(sizes.values()):,} bytes of tensors, as no checkpoint's do; fetch it again, or write "
            "its tensors whole: tensor.contiguous()"
        )


def check_backed(file: Path, tensors: Iterable[Tensor], content: bytes) -> None:
    """Refuse tensors that are longer than the records of their archive.

    PyTorch's own reader has looked at this only since some version; before, memory behind a short record was taken for weights.

    Raises:
        FormatError: they are.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = sorted((one.file_size for one in archive.infolist() if "/data/" in one.filename), reverse=True)
    plain = (one for one in tensors if one.layout == strided and one.device.type == "cpu")
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in plain}
    sizes = sorted(held.values(), reverse=True)
    # Each storage has a record of its own that is as long: then the first of one are as long as the first of the other.
    if len(sizes) > len(records) or any(size > record for size, record in zip(sizes, records, strict=False)):
        raise FormatError(
            f"{file}: a pickled checkpoint that is cut or damaged; fetch it again (a record is shorter than its tensor)"
        )


def _check_places(content: bytes, records: list[zipfile.ZipInfo], end: int) -> None:
    """Raises BadZipFile if the bytes of a record do not end before the next header."""
    ends = [*sorted(record.header_offset for record in records), end]
    following = dict(pairwise(ends))
    for record in records:
        if not 0 <= record.header_offset <= end - _LOCAL.size:  # a directory of the ZIP64 form may say 2^63
            raise zipfile.BadZipFile(f"record {record.filename!r} does not begin before the archive's directory")
        name, extra = _LOCAL.unpack_from(content, record.header_offset)
        start = record.header_offset + _LOCAL.size + name + extra
        stored = record.compress_type != zipfile.ZIP_STORED or record.compress_size == record.file_size
        if not stored or start + record.compress_size > following[record.header_offset]:
            raise zipfile.BadZipFile(f"record {record.filename!r} is shorter than it is said to be")


def _check_sums(archive: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> None:
    """Raises BadZipFile if a record has a wrong checksum. If PyTorch was told to write no checksums, all of them are 0."""
    if not any(record.CRC for record in records):
        return
    for record in records:
        with archive.open(record) as opened:
            while opened.read(_PART):
                pass
