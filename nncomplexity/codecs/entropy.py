"""Entropy coding through range coding: one stream for the whole payload, so no record pays for a word of its own."""

from dataclasses import dataclass

from nncomplexity.codecs.coder import Checker, Decoder, Encoder
from nncomplexity.codecs.contract import Coder, Integers, Model, Single
from nncomplexity.errors import FormatError


@dataclass(frozen=True)
class Entropy:
    """The project's own codec: each record under its model, all in one range-coded stream.

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
        """A reader of a payload; what it unpacks is bounded by the records that are asked for."""
        return EntropyReader(payload)


class EntropyWriter:
    """Runs models against an encoder."""

    def __init__(self) -> None:
        self._coder = Encoder()

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        """Write symbols under their model, and give them back."""
        return model.code(self._coder, symbols)

    def one(self, value: int | None, model: Single) -> int:
        """Write one number under its model, and give it back."""
        return model.one(self._coder, value)

    def finish(self) -> bytes:
        """The payload."""
        return self._coder.finish()


class EntropyReader:
    """Runs models against a decoder.

    Args:
        payload: what to read.
        checked: whether to see in the end that it ends where and how an encoder's would. Version 1 of the format asked for no more than
            that it doesn't end in zero bytes.
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
        """Raises FormatError where the payload isn't used up."""
        if self._checker is not None:
            self._checker.finish()
