"""xz: LZMA2 with a large window, usually the smallest of the general-purpose compressors on weights."""

import lzma

from nncomplexity.codecs.general import General
from nncomplexity.errors import FormatError

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
_MEMORY_LIMIT = 1 << 27


def _decompress(payload: bytes, most: int) -> bytes:
    try:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
        data = stream.decompress(payload, max_length=most)
    except lzma.LZMAError as error:
        raise FormatError(f"payload is no xz stream ({error})") from error
    if len(data) < most and (not stream.eof or stream.unused_data):
        raise FormatError("xz payload is cut, or followed by something else")
    return data


XZ = General("xz", lambda data: lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=_FILTERS), _decompress)
