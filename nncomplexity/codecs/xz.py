"""xz: LZMA2 with a large window, usually the smallest of the general-purpose compressors on weights."""

import lzma

from nncomplexity.codecs.general import General, unpacked
from nncomplexity.errors import FormatError

_LEAST_WINDOW, _MOST_WINDOW = 1 << 12, 1 << 23
"""Sizes of the window in bytes. The largest is that of preset 6. A window larger than the data takes time to allocate and saves nothing."""
_MEMORY_LIMIT = 1 << 27
"""The largest memory of the decoder in bytes, by docs/format.md. A stream's header could ask for more than the file's length justifies."""


def _decompress(payload: bytes, most: int) -> bytearray:
    try:
        return unpacked(lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT), payload, most, "xz")
    except lzma.LZMAError as error:
        raise FormatError(f"payload is no xz stream ({error})") from error


def _compress(data: bytes) -> bytes:
    window = min(max(1 << len(data).bit_length(), _LEAST_WINDOW), _MOST_WINDOW)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window}]
    # No checksum, because the `.coarse` file has one.
    return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)


XZ = General("xz", _compress, _decompress)
