"""Codecs: records of (symbols, model) to bytes and back, under one contract.

Which one? `entropy` is the smallest by far and the default. `bzip2` is the paper's. The others are there to compare with.
A codec's index in `CODECS` is its number in a file; `register_codec` adds a codec of your own. This wing works on arrays of integers only, and
never on tensors of PyTorch.

- `contract`: what a model, a coder and a codec owe each other
- `coder`: the range coder: encoder, decoder, meter
- `learning`: weighing adaptive tables without coding
- `models`: models of single decisions, plain integers and raw bytes
- `scales`: the scale model: magnitudes by what their row and column have shown
- `lines`: dead rows and columns of a matrix, marked instead of coded
- `matrix`: the model of a quantized matrix: the scale model, or a table of its own
- `entropy`: the project's codec: every record in one stream
- `general`: what the byte compressors share
- `bzip2`, `xz`, `gzip`, `zstd`: the paper's compressor, LZMA, DEFLATE, zstandard
- `registry`: the codecs by name and number, and codecs of users
- `together`: weighing many small matrices at once
"""

from nncomplexity.codecs.coder import Meter
from nncomplexity.codecs.contract import SYMBOL_LIMIT, Codec, Coder, Frequencies, Integers, Model, Reader, Records, Single
from nncomplexity.codecs.entropy import Entropy, EntropyReader
from nncomplexity.codecs.general import General
from nncomplexity.codecs.matrix import VERSION, KnownKind, Matrix, MatrixState
from nncomplexity.codecs.models import Bits, Categorical, Natural, Planes, Signed, Tally, length_tally, single, within
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
    "single",
    "weigh_each",
    "weigh_together",
    "within",
]
