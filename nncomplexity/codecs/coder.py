"""Range coding under given frequencies: an encoder, its decoder, and a meter that only counts bits.

The arithmetic is constriction's range coder (Martin 1979): 32-bit words, a 64-bit state, and frequencies normalised to 24 bits. Two things
differ. First, words are stored big-endian, and the stream is cut to the fewest bytes that still denote a point of the final interval; a
decoder reads zeros after the end. Second, frequencies are integers in float64, for which the normalisation is exact. No logarithm or
exponential is used, so every machine has the same intervals.
"""

import math

import constriction
import numpy as np

from nncomplexity.codecs.contract import Frequencies, Integers
from nncomplexity.errors import FormatError

_Categorical = constriction.stream.model.Categorical
_Uniform = constriction.stream.model.Uniform
# perfect=False is the normalisation that docs/format.md specifies. constriction's other one would give other intervals.
_FAMILY = _Categorical(perfect=False)
_OUTSIDE = "payload points outside every symbol's interval: it is damaged"
"""The message for constriction's AssertionError. Normalising to 24 bits leaves a small interval that belongs to no symbol."""
_WORD_BITS = 32
_STATE_BITS = 64


class Encoder:
    """Writes decisions into a growing stream."""

    def __init__(self) -> None:
        self._stream = constriction.stream.queue.RangeEncoder()

    def categorical(self, values: Integers | None, frequencies: Frequencies, count: int) -> Integers:
        """Write symbols (count,) under frequencies (size,), or one row (count, size) for each of them."""
        assert values is not None
        # A certain symbol needs no bits, and constriction refuses an alphabet of one symbol.
        if count and frequencies.shape[-1] > 1:
            # constriction takes symbols only as a contiguous array of this type.
            symbols = np.ascontiguousarray(values, dtype=np.int32)
            if frequencies.ndim == 1:
                self._stream.encode(symbols, _Categorical(frequencies, perfect=False))
            else:
                self._stream.encode(symbols, _FAMILY, frequencies)
        return values

    def uniform(self, values: Integers | None, size: int, count: int) -> Integers:
        """Write symbols (count,) below `size`, all equally likely."""
        assert values is not None
        if count and size > 1:
            self._stream.encode(np.ascontiguousarray(values, dtype=np.int32), _Uniform(size))
        return values

    def equal(self, value: int | None, size: int) -> int:
        """Write one symbol below `size`, all equally likely."""
        assert value is not None
        self._stream.encode(value, _Uniform(size))
        return value

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Write one symbol, then raise its frequency by `gain`."""
        assert value is not None
        if frequencies.size > 1:
            self._stream.encode(value, _Categorical(frequencies, perfect=False))
        frequencies[value] += gain
        return value

    def finish(self) -> bytes:
        """The shortest byte string that is in the final interval if zeros follow it.

        constriction has the interval [lower, lower + width) for the part after the first `position` words. The interval may reach beyond
        2^64, which carries into these words. `get_compressed` has already added the carry if its own point is beyond 2^64, so it
        is subtracted here.
        """
        position, (lower, width) = self._stream.pos()
        words = self._stream.get_compressed()[:position].astype(">u4").tobytes()
        carried = lower + (1 << _WORD_BITS) - 1 >> _STATE_BITS
        point: int = (int.from_bytes(words, "big") - carried << _STATE_BITS) + _roundest(lower, lower + width)
        return point.to_bytes(len(words) + _STATE_BITS // 8, "big").rstrip(b"\0")


class Decoder:
    """Reads symbols. A damaged stream gives wrong symbols, or FormatError if it denotes a point outside all intervals.

    The decoder doesn't notice the end of a stream. So callers must check the number of symbols that they read.
    """

    def __init__(self, payload: bytes) -> None:
        # The encoder cut the stream where zeros may follow. constriction needs whole words, and reads two words more for its state.
        padded = payload + bytes(-len(payload) % 4 + _STATE_BITS // 8)
        self._stream = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))

    def categorical(self, values: Integers | None, frequencies: Frequencies, count: int) -> Integers:
        """Read count symbols under frequencies (size,), or one row (count, size) for each of them."""
        assert values is None
        if not count or frequencies.shape[-1] == 1:
            return np.zeros(count, dtype=np.int64)
        if frequencies.ndim == 1:
            return self._decode(_Categorical(frequencies, perfect=False), count)
        return self._decode(_FAMILY, frequencies)

    def uniform(self, values: Integers | None, size: int, count: int) -> Integers:
        """Read count symbols below `size`, all equally likely."""
        assert values is None
        if not count or size == 1:
            return np.zeros(count, dtype=np.int64)
        return self._decode(_Uniform(size), count)

    def equal(self, value: int | None, size: int) -> int:
        """Read one symbol below `size`, all equally likely."""
        assert value is None
        return self._one(_Uniform(size))

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Read one symbol, then raise its frequency by `gain`."""
        assert value is None
        value = self._one(_Categorical(frequencies, perfect=False)) if frequencies.size > 1 else 0
        frequencies[value] += gain
        return value

    def _decode(self, model: object, count_or_frequencies: int | Frequencies) -> Integers:
        try:
            return np.asarray(self._stream.decode(model, count_or_frequencies), dtype=np.int64)
        except AssertionError as error:
            raise FormatError(_OUTSIDE) from error

    def _one(self, model: object) -> int:
        """One symbol, as a number instead of an array."""
        try:
            return int(self._stream.decode(model))
        except AssertionError as error:
            raise FormatError(_OUTSIDE) from error


class Checker:
    """Decodes symbols and encodes them again, to check at the end that an encoder would write the same payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload, self._decoder, self._encoder = payload, Decoder(payload), Encoder()

    def categorical(self, values: Integers | None, frequencies: Frequencies, count: int) -> Integers:
        """Decode symbols, and encode them again."""
        return self._encoder.categorical(self._decoder.categorical(values, frequencies, count), frequencies, count)

    def uniform(self, values: Integers | None, size: int, count: int) -> Integers:
        """Decode symbols that are equally likely, and encode them again."""
        return self._encoder.uniform(self._decoder.uniform(values, size, count), size, count)

    def equal(self, value: int | None, size: int) -> int:
        """Decode one of `size` equally likely symbols, and encode it again."""
        return self._encoder.equal(self._decoder.equal(value, size), size)

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Decode a symbol under adaptive frequencies, and encode it again. The frequencies change once."""
        # A gain of 0 while decoding, so that the encoder has the same frequencies.
        return self._encoder.learned(self._decoder.learned(value, frequencies, 0), frequencies, gain)

    def finish(self) -> None:
        """Raises FormatError if an encoder would end the payload in another way. Otherwise two payloads could have the same content."""
        if self._encoder.finish() != self._payload:
            raise FormatError("payload goes on or ends otherwise than its decisions do: it is damaged")


class Meter:
    """Adds up −log₂ of the probabilities of symbols, in bits, and writes nothing."""

    def __init__(self) -> None:
        self.bits = 0.0

    def categorical(self, values: Integers | None, frequencies: Frequencies, count: int) -> Integers:
        """Count the bits of symbols (count,) under frequencies (size,), or one row (count, size) for each of them."""
        assert values is not None
        if count and frequencies.ndim == 1:
            tally = np.bincount(values, minlength=frequencies.size)
            self.bits += count * np.log2(frequencies.sum()) - float((tally * np.log2(frequencies)).sum())
        elif count:
            chosen = np.take_along_axis(frequencies, values[:, None], axis=1)[:, 0]
            self.bits += float(np.log2(frequencies.sum(axis=1) / chosen).sum())
        return values

    def uniform(self, values: Integers | None, size: int, count: int) -> Integers:
        """Count the bits of symbols (count,) below `size`, all equally likely."""
        assert values is not None
        self.bits += count * float(np.log2(size))
        return values

    def equal(self, value: int | None, size: int) -> int:
        """Count the bits of one symbol below `size`, all equally likely."""
        assert value is not None
        self.bits += math.log2(size)
        return value

    def learned(self, value: int | None, frequencies: Frequencies, gain: int) -> int:
        """Count the bits of one symbol, then raise its frequency by `gain`."""
        assert value is not None
        self.bits += math.log2(float(frequencies.sum()) / float(frequencies[value]))
        frequencies[value] += gain
        return value


def _roundest(low: int, high: int) -> int:
    """The integer in [low, high) that is a multiple of the largest power of 256."""
    for zeros in range(_STATE_BITS, -1, -8):
        candidate = -(-low >> zeros) << zeros
        if candidate < high:
            return candidate
    raise AssertionError("an interval is never empty")
