"""gzip: DEFLATE, for comparison with the most widely used compressor."""

import gzip
import zlib

from nncomplexity.codecs.general import AT_ONCE, General
from nncomplexity.errors import FormatError

_GZIP_WINDOW = 31
"""zlib's number for a gzip header and the largest window."""


def _decompress(payload: bytes, most: int) -> bytearray:
    stream, data = zlib.decompressobj(wbits=_GZIP_WINDOW), bytearray()
    try:
        while not stream.eof and len(data) < most:
            part = stream.decompress(payload, min(AT_ONCE, most - len(data)))
            if not part and not stream.eof and not stream.unconsumed_tail:  # no input is left before the end: the payload is cut
                break
            data += part
            payload = stream.unconsumed_tail
    except zlib.error as error:
        raise FormatError(f"payload is no gzip stream ({error})") from error
    if len(data) < most and (not stream.eof or stream.unused_data):
        raise FormatError("gzip payload is cut, or followed by something else")
    return data


# With the present time in gzip's header, the same symbols would give another payload each second.
GZIP = General("gzip", lambda data: gzip.compress(data, 9, mtime=0), _decompress)
