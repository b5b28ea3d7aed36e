"""The codecs by name, and by their number in a file.

The package's own codecs have the numbers 0 to 4. `register_codec` adds a user's codec, with a number from 128 to 255. The package will never
use these numbers for its own codecs.
"""

from nncomplexity.codecs.bzip2 import BZIP2
from nncomplexity.codecs.contract import (
    Codec,
)
from nncomplexity.codecs.entropy import Entropy
from nncomplexity.codecs.gzip import GZIP
from nncomplexity.codecs.xz import XZ
from nncomplexity.codecs.zstd import ZSTD
from nncomplexity.errors import FormatError, InputError
from nncomplexity.words import shown

CODECS: tuple[Codec, ...] = (Entropy(), BZIP2, XZ, GZIP, ZSTD)
FIRST_OF_USERS, LAST = 128, 255
"""The range of numbers for `register_codec`."""
_registered: dict[int, Codec] = {}
"""Users' codecs by number. A file has only the number of its codec, so a program must register the codec before it reads the file."""


def register_codec(codec: Codec, number: int) -> None:
    """Register your own codec, for `estimate(codec=...)` by its name, and for files by its number.

    Call this once when your module is imported, also in programs that only read files of this codec. A second call with the same name and
    number replaces the codec.

    Args:
        codec: an object with `name`, `writer` and `reader`, as in `nncomplexity.codecs.Codec`.
        number: 128 to 255; it is the payload's second byte.

    Raises:
        InputError: the number is outside this range, or the name or the number belongs to another codec.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not FIRST_OF_USERS <= number <= LAST:
        raise InputError(f"number: expected a whole number from {FIRST_OF_USERS} to {LAST}, got {shown(number)}")
    missing = [part for part in ("name", "writer", "reader") if not hasattr(codec, part)]
    if missing:
        raise InputError(f"codec: expected an object with name, writer and reader, got {codec!r} without {', '.join(missing)}")
    others = {one.name for one in CODECS} | {one.name for at, one in _registered.items() if at != number}
    if codec.name in others:
        raise InputError(f"codec: the name {codec.name!r} belongs to another codec; choose another name")
    if number in _registered and _registered[number].name != codec.name:
        raise InputError(f"number: {number} belongs to the codec {_registered[number].name!r}; choose another number")
    _registered[number] = codec


def codec_named(name: str) -> Codec:
    """The codec of that name. Raises InputError if there is none."""
    known = (*CODECS, *_registered.values())
    for codec in known:
        if codec.name == name:
            return codec
    raise InputError(f"codec: expected one of {', '.join(codec.name for codec in known)}, got {name!r}")


def number_of(codec: Codec) -> int:
    """The number by which a file names the codec. Raises InputError for a codec that isn't registered."""
    for number, one in (*enumerate(CODECS), *_registered.items()):
        if one == codec:
            return number
    raise InputError(f"codec: {codec.name!r} has no number in a file; call nncomplexity.codecs.register_codec first")


def codec_numbered(number: int) -> Codec:
    """The codec of that number in a file. Raises FormatError if there is none."""
    if 0 < number < len(CODECS):
        return CODECS[number]
    if number in _registered:
        return _registered[number]
    advice = "; register the codec that wrote the file" if number >= FIRST_OF_USERS else ""
    raise FormatError(f"payload names codec {number}, and this version knows 1 to {len(CODECS) - 1}{advice}")
