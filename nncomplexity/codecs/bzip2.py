"""bzip2, the paper's compressor."""

import bz2

from nncomplexity.codecs.general import General, unpacked
from nncomplexity.errors import FormatError


def _decompress(payload: bytes, most: int) -> bytearray:
    try:
        return unpacked(bz2.BZ2Decompressor(), payload, most, "bzip2")
    except (OSError, ValueError) as error:
        raise FormatError(f"payload is no bzip2 stream ({error})") from error


BZIP2 = General("bzip2", lambda data: bz2.compress(data, 9), _decompress)
