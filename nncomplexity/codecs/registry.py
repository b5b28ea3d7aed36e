"""The codecs by name, and by their number in a file."""

from nncomplexity.codecs.bzip2 import BZIP2
from nncomplexity.codecs.contract import (
    Codec,
)
from nncomplexity.codecs.entropy import Entropy
from nncomplexity.codecs.gzip import GZIP
from nncomplexity.codecs.xz import XZ
from nncomplexity.codecs.zstd import ZSTD
from nncomplexity.errors import InputError

CODECS: tuple[Codec, ...] = (Entropy(), BZIP2, XZ, GZIP, ZSTD)


def codec_named(name: str) -> Codec:
    """The codec of that name; raises InputError."""
    for codec in CODECS:
        if codec.name == name:
            return codec
    raise InputError(f"codec: expected one of {', '.join(codec.name for codec in CODECS)}, got {name!r}")
