"""What is in a `.coarse` file. docs/format.md is the specification.

- `coarse`: the forms of a tensor (zero, constant, dense, low rank, blocks, lossless), and the exact arithmetic that decodes them
- `payload`: encodes and decodes all tensors, and counts the bits of each tensor (`weigh`)
- `bitstream`: the file: skeleton, payload, checksum
- `paper_bytes`: the size of the same tensors by the recipe of the paper's authors
- `reading`: reads files completely and in one consistent state
- `saving`: writes files completely or not at all
"""

from typing import TYPE_CHECKING

from nncomplexity.words import load_on_demand

if TYPE_CHECKING:
    from nncomplexity.file.bitstream import (
        DEFAULT_LIMIT,
        MAGIC,
        CoarseFile,
        load,
        read,
        read_file,
        write,
    )
    from nncomplexity.file.coarse import (
        CoarseTensor,
        Constant,
        Decodable,
        Decoded,
        Dense,
        LowRank,
        Piece,
        Pieces,
        decoded_together,
        dense,
        dense_of,
        exact,
        form_of,
        matrix_shape,
        narrow,
        overflows,
        united,
    )
    from nncomplexity.file.paper_bytes import paper_bytes
    from nncomplexity.file.payload import encode, lengths, weigh
    from nncomplexity.file.reading import Reading, read_settled
    from nncomplexity.file.saving import save_bytes, sync_folder
else:
    load_on_demand(
        __name__,
        {
            "bitstream": (
                "DEFAULT_LIMIT",
                "MAGIC",
                "CoarseFile",
                "load",
                "read",
                "read_file",
                "write",
            ),
            "coarse": (
                "CoarseTensor",
                "Constant",
                "Decodable",
                "Decoded",
                "Dense",
                "LowRank",
                "Piece",
                "Pieces",
                "decoded_together",
                "dense",
                "dense_of",
                "exact",
                "form_of",
                "matrix_shape",
                "narrow",
                "overflows",
                "united",
            ),
            "paper_bytes": ("paper_bytes",),
            "payload": (
                "encode",
                "lengths",
                "weigh",
            ),
            "reading": (
                "Reading",
                "read_settled",
            ),
            "saving": (
                "save_bytes",
                "sync_folder",
            ),
        },
    )

__all__ = [
    "DEFAULT_LIMIT",
    "MAGIC",
    "CoarseFile",
    "CoarseTensor",
    "Constant",
    "Decodable",
    "Decoded",
    "Dense",
    "LowRank",
    "Piece",
    "Pieces",
    "Reading",
    "decoded_together",
    "dense",
    "dense_of",
    "encode",
    "exact",
    "form_of",
    "lengths",
    "load",
    "matrix_shape",
    "narrow",
    "overflows",
    "paper_bytes",
    "read",
    "read_file",
    "read_settled",
    "save_bytes",
    "sync_folder",
    "united",
    "weigh",
    "write",
]
