"""Zstandard at level 19, without a checksum or content size, because the `.coarse` file already has both."""

import zstandard

from nncomplexity.codecs.general import General
from nncomplexity.errors import FormatError

_WINDOW_LIMIT = 1 << 27
"""The largest window in bytes, by docs/format.md. A frame's header could ask for more memory than the file's length justifies."""
_PIECE = 1 << 8
"""The number of packed bytes that are unpacked at once. It is small, because four packed bytes can stand for 128 KiB."""


def _compress(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, source_size=len(data), write_content_size=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _decompress(payload: bytes, most: int) -> bytearray:
    stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).decompressobj()
    data = bytearray()
    at = 0
    try:
        while at < len(payload) and not stream.eof and len(data) < most:
            data += stream.decompress(payload[at : at + _PIECE])
            at += _PIECE
    except zstandard.ZstdError as error:
        raise FormatError(f"payload is no zstandard stream ({error})") from error
    if len(data) < most and (not stream.eof or stream.unused_data or at < len(payload)):
        raise FormatError("zstd payload is cut, or followed by something else")
    del data[most:]
    return data


ZSTD = General("zstd", _compress, _decompress)
