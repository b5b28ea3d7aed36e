"""A codec of your own: LZMA without the container that xz puts around it."""

import lzma
from pathlib import Path

from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import FormatError, estimate, load
from nncomplexity.codecs import General, register_codec

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


def compress(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)


def decompress(payload: bytes, most: int) -> bytes:
    """At most `most` bytes. A damaged payload raises FormatError: files may come from anyone."""
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS).decompress(payload, max_length=most)
    except lzma.LZMAError as error:
        raise FormatError(f"payload is no raw LZMA stream ({error})") from error


register_codec(General("raw-lzma", compress, decompress), number=128)

if __name__ == "__main__":
    weights = load_file("examples/digits/checkpoints/mlp.safetensors")
    bits = {}
    for codec in ("xz", "raw-lzma"):
        report = estimate(weights, task.loss, eps=0.1, method="quantize", budget=12, codec=codec)
        bits[codec] = report.bits
    report.save("mlp.coarse")
    decoded = load("mlp.coarse")  # a program that reads the file must call register_codec first
    print(f"the file decodes to the reported loss: {float(task.loss(decoded)) == report.coarse_loss}")
    print(f"smaller than xz: {bits['raw-lzma'] < bits['xz']}")
    Path("mlp.coarse").unlink()
