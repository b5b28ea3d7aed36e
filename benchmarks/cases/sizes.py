"""Networks of several sizes, to measure the cost of a search."""

SIZES: dict[str, tuple[str, int, int, int, int]] = {
    "1M": ("gpt2", 128, 4, 2_048, 256),
    "4M": ("gpt2", 192, 8, 3_072, 512),
    "16M": ("gpt2", 320, 10, 12_288, 512),
    "22M": ("bert", 384, 6, 30_522, 512),
    "64M": ("gpt2", 576, 10, 40_000, 1_024),
    "125M": ("gpt2", 768, 12, 50_257, 1_024),
}
"""By name: shape, width, blocks, vocabulary and positions."""
