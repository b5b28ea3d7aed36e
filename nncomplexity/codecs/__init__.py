"""Codecs: records of (symbols, model) to bytes and back, under one contract.

`entropy` is the default, and gives by far the smallest files. `bzip2` is the paper's codec. The others are for comparison. A codec's index in
`CODECS` is its number in a file. `register_codec` adds your own codec. This wing works only on arrays of integers, not on tensors.

- `contract`: the interfaces of models, coders and codecs
- `coder`: the range coder: encoder, decoder, meter
- `learning`: the bits of symbols under adaptive tables, without coding them
- `models`: models of single symbols, integers and bytes
- `scales`: the scale model: magnitudes given the earlier ones in their row and column
- `lines`: rows and columns of zeros, which are marked instead of coded
- `matrix`: the model of a quantized matrix: the scale model, or a table for this matrix alone
- `entropy`: the project's codec: every record in one stream
- `general`: the common part of the byte compressors
- `bzip2`, `xz`, `gzip`, `zstd`: the paper's compressor, LZMA, DEFLATE, zstandard
- `registry`: the codecs by name and number, and users' codecs
- `together`: counts the bits of many small matrices at once
"""

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Codec, Coder, Frequencies, Integers, Model, Reader, Records, Single
from nncomplexity.codecs.entropy import Entropy, EntropyReader
from nncomplexity.codecs.general import General
from nncomplexity.codecs.matrix import VERSION, KnownKind, Matrix, MatrixState
from nncomplexity.codecs.models import Bits, Categorical, Natural, Planes, Signed, Tally, length_tally, room_for, single, within
from nncomplexity.codecs.registry import CODECS, codec_named, codec_numbered, number_of, register_codec
from nncomplexity.codecs.together import LARGEST, MOST, Ledger, weigh_each, weigh_together

__all__ = [
    "CODECS",
    "LARGEST",
    "MOST",
    "SYMBOL_LIMIT",
    "VERSION",
    "Bits",
    "Categorical",
    "Codec",
    "Coder",
    "Entropy",
    "EntropyReader",
    "Frequencies",
    "General",
    "Integers",
    "KnownKind",
    "Ledger",
    "Matrix",
    "MatrixState",
    "Meter",
    "Model",
    "Natural",
    "Planes",
    "Reader",
    "Records",
    "Signed",
    "Single",
    "Tally",
    "codec_named",
    "codec_numbered",
    "length_tally",
    "number_of",
    "register_codec",
    "room_for",
    "single",
    "weigh_each",
    "weigh_together",
    "within",
]
