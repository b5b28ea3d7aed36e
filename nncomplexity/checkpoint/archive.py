"""Checks a zip archive before it is read: its records must be whole, have the right checksums, and not unpack to too many bytes.

PyTorch's reader does not check the checksums. Some of its versions do not check the length of a record either: if a record is shorter than
its header says, they read the bytes after it as weights.
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
"""The fields that are read from a record's header: the lengths of the name and of the extra field that follow the header."""
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
                raise zipfile.BadZipFile("two records have the same name")
            unpacked = sum(record.file_size for record in records)
            if unpacked > allowance(len(content)):
                raise zipfile.BadZipFile(f"it would unpack to {unpacked:,} bytes")
            _check_places(content, records, archive.start_dir)
            _check_sums(archive, records)
    except (ValueError, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error, struct.error, MemoryError) as error:
        raise zipfile.BadZipFile(str(error)) from error
    return names


def allowance(length: int) -> int:
    """The largest number of bytes to which a file of this length may unpack.

    >>> allowance(1_000_000) == 2**28, allowance(10**9) == 32 * 10**9
    (True, True)
    """
    return max(_LEAST, _RATIO * length)


def check_unpacked(file: Path, tensors: Iterable[Tensor], length: int) -> None:
    """Check that tensors are not larger than the length of their file allows.

    With a stride of 0, a file of a few bytes can contain a tensor of any shape, whose elements are all the same number.

    Raises:
        FormatError: the tensors are too large.
    """
    sizes = {id(one): one.numel() * one.element_size() for one in tensors if one.layout == strided}
    if sum(sizes.values()) > allowance(length):
        raise FormatError(
            f"{file}: its {length:,} bytes unpack to {sum(sizes.values()):,} bytes of tensors, more than those of any real checkpoint; fetch "
            "it again, or write its tensors whole: tensor.contiguous()"
        )


def check_backed(file: Path, tensors: Iterable[Tensor], content: bytes) -> None:
    """Check that no tensor is longer than its record in the archive.

    Old versions of PyTorch's reader don't check this. They read the memory after a short record as weights.

    Raises:
        FormatError: a tensor is longer than its record.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = sorted((one.file_size for one in archive.infolist() if "/data/" in one.filename), reverse=True)
    on_cpu = (one for one in tensors if one.layout == strided and one.device.type == "cpu")
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in on_cpu}
    sizes = sorted(held.values(), reverse=True)
    # It is not known which record belongs to which storage. But if each storage has its own record of at least the same length, then the
    # k-th longest storage is never longer than the k-th longest record.
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
        # A record that isn't compressed has its length twice.
        consistent = record.compress_type != zipfile.ZIP_STORED or record.compress_size == record.file_size
        if not consistent or start + record.compress_size > following[record.header_offset]:
            raise zipfile.BadZipFile(f"record {record.filename!r} is shorter than its header says")


def _check_sums(archive: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> None:
    """Raises BadZipFile if a record has a wrong checksum."""
    # PyTorch can be set to write no checksums. All of them are then 0.
    if not any(record.CRC for record in records):
        return
    for record in records:
        with archive.open(record) as opened:
            while opened.read(_PART):
                pass
