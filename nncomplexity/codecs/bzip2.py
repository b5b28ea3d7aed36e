"""bzip2, the paper's compressor."""

import bz2

from nncomplexity.codecs.general import General
from nncomplexity.errors import FormatError


def _decompress(payload: bytes, most: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    try:
        data = stream.decompress(payload, max_length=most)
    except (OSError, ValueError) as error:
        raise FormatError(f"payload is no bzip2 stream ({error})") from error
    if len(data) < most and (not stream.eof or stream.unused_data):
        raise FormatError("bzip2 payload is cut, or followed by something else")
    return data


BZIP2 = General("bzip2", lambda data: bz2.compress(data, 9), _decompress)
