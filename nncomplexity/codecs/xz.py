"""xz: LZMA2 with a large window, usually the smallest of the general-purpose compressors on weights."""

import lzma

from nncomplexity.codecs.general import General, unpacked
from nncomplexity.errors import FormatError

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
_MEMORY_LIMIT = 1 << 27


def _decompress(payload: bytes, most: int) -> bytearray:
    try:
        return unpacked(lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT), payload, most, "xz")
    except lzma.LZMAError as error:
        raise FormatError(f"payload is no xz stream ({error})") from error


XZ = General("xz", lambda data: lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=_FILTERS), _decompress)
