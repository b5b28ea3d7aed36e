"""Entropy coding by one range-coded stream for the whole payload, so that no record is rounded up to whole bytes."""

from dataclasses import dataclass

from nncomplexity.codecs.coder import Checker, Decoder, Encoder
from nncomplexity.codecs.contract import Coder, Integers, Model, Single
from nncomplexity.errors import FormatError


@dataclass(frozen=True)
class Entropy:
    """The project's codec: all records in one range-coded stream, each under its model.

    >>> from nncomplexity.codecs.matrix import Matrix, MatrixState
    >>> import numpy as np
    >>> writer = Entropy().writer()
    >>> _ = writer.record(np.array([0, 0, 1, 0, -1, 0, 0, 0]), Matrix(4, 2, MatrixState()))
    >>> payload = writer.finish()
    >>> Entropy().reader(payload, limit=100).record(None, Matrix(4, 2, MatrixState())).tolist()
    [0, 0, 1, 0, -1, 0, 0, 0]
    """

    name: str = "entropy"

    def writer(self) -> "EntropyWriter":
        """A writer of a new payload."""
        return EntropyWriter()

    def reader(self, payload: bytes, limit: int) -> "EntropyReader":  # noqa: ARG002 - what it reads is bounded by its records
        """A reader of a payload. The records that callers ask for bound the memory, so `limit` is not needed."""
        return EntropyReader(payload)


class EntropyWriter:
    """Writes records by an encoder."""

    def __init__(self) -> None:
        self._coder = Encoder()

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write symbols under their model, and return them."""
        return model.code(self._coder, symbols)

    def one(self, value: int | None, model: Single) -> int:
        """Write one number under its model, and return it."""
        return model.one(self._coder, value)

    def finish(self) -> bytes:
        """The payload."""
        return self._coder.finish()


class EntropyReader:
    """Reads records by a decoder.

    Args:
        payload: the bytes.
        checked: whether to check at the end that an encoder would end the payload in the same way. Version 1 of the format only required
            that the payload does not end in zero bytes.
    """

    def __init__(self, payload: bytes, *, checked: bool = True) -> None:
        if payload.endswith(b"\0"):
            raise FormatError("payload ends in zero bytes, which a writer cuts: it is damaged")
        self._checker = Checker(payload) if checked else None
        self._coder: Coder = self._checker or Decoder(payload)

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """The symbols of the next record, under its model."""
        return model.code(self._coder, symbols)

    def one(self, value: int | None, model: Single) -> int:
        """The number of the next record, under its model."""
        return model.one(self._coder, value)

    def finish(self) -> None:
        """Raises FormatError if the payload has more content."""
        if self._checker is not None:
            self._checker.finish()
