"""The payload of a file: one pass over all tensors, with the same code for encoder, decoder and meter.

The order is: the precision of the step sizes, and then for each tensor its form and the content of the form. Complex tensors are coded as
pairs of real ones, so coarse tensors are always those of `Skeleton.real`. docs/format.md is the specification.

To *weigh* symbols is to count their bits without writing them. `count_bits` adds up −log₂ of the probabilities under which symbols would
be coded.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nncomplexity.codecs import (
    CODECS,
    LARGEST,
    MOST,
    VERSION,
    Bits,
    Categorical,
    Codec,
    Coder,
    Entropy,
    EntropyReader,
    Frequencies,
    General,
    Integers,
    KnownKind,
    Ledger,
    Matrix,
    MatrixState,
    Model,
    Natural,
    Planes,
    Reader,
    Records,
    Signed,
    Single,
    Tally,
    codec_numbered,
    length_tally,
    number_of,
    single,
    weigh_together,
    within,
)
from nncomplexity.errors import FormatError
from nncomplexity.file.coarse import (
    CoarseTensor,
    Constant,
    Dense,
    Lossless,
    LowRank,
    Piece,
    Pieces,
    matrix_shape,
    multiplications,
    narrowed,
)
from nncomplexity.linalg import MOST_ROWS
from nncomplexity.network import MOST_BLOCKS, Blocks, Folding, Layout, Skeleton, TensorSpec, pieces_of

ESCAPE = 0xFF
"""If a payload begins with this byte, the next byte is the number of its codec. Every other payload is entropy-coded."""

_ZERO, _DENSE, _LOW_RANK, _ONE, _LOSSLESS, _PIECES = range(6)
# The priors are part of the format. Each is a guess of how often a form occurs; the tallies adapt to the file.
_FORM_PRIOR = np.array([64, 64, 64, 32, 32, 1])
# Tensors that are kept as they are have no pieces, so there is no frequency for this form.
_OTHER_FORM_PRIOR = np.array([8, 32, 1, 8, 16])
_NO_BASIS, _LAST_BASIS, _NEW_BASIS = range(3)
_BASIS_PRIOR = np.array([48, 4, 4])
_ROW_BLOCKS, _COLUMN_BLOCKS, _FOLDING = range(3)
_MANTISSA_BITS = 52
_EXPONENTS = (-1074, 1023)
_FREE_WORK, _WORK_PER_ELEMENT, _WORK_PER_BYTE = 1 << 32, 1 << 8, 1 << 16
"""Limits on the multiplications of factors: for any payload, and in addition for each element and each byte of the payload. A small hostile
file could otherwise take hours to decode."""
_FREE_PARTS, _PARTS_PER_BYTE = 1 << 10, 8
"""Limits on the number of tensors and pieces that are not constant: for any payload, and in addition for each byte."""
_OVERHEAD = 64
"""An upper bound on the bytes of one tensor's fields under a byte codec."""


@dataclass
class _Walk:
    """The state that the tensors of one payload share while they are coded."""

    records: Records
    work: float = math.inf
    """The number of multiplications that products of factors may still take."""
    parts: float = math.inf
    """The number of pieces, and of tensors that aren't constant, that may still follow."""
    precision: int = 0
    exponent: int = -4
    """The exponent of the last step. The first step is coded as a difference from this typical value."""
    rank: int = 8
    """The last rank. The first rank is coded as a difference from this typical value."""
    forms: Categorical = field(default_factory=lambda: Categorical(Tally(_FORM_PRIOR, 64)))
    other_forms: Categorical = field(default_factory=lambda: Categorical(Tally(_OTHER_FORM_PRIOR, 8)))
    bases: Categorical = field(default_factory=lambda: Categorical(Tally(_BASIS_PRIOR, 8)))
    period: int = 0
    """The last period of a basis."""
    unlike: Categorical = field(default_factory=lambda: Categorical(Tally(np.array([8, 8]), 8)))
    """Whether the two factors have different steps."""
    margins: Natural = field(default_factory=lambda: Natural(length_tally()))
    """The difference between the number of rows and a new period."""
    layouts: Categorical = field(default_factory=lambda: Categorical(Tally(np.array([8, 8, 8]), 8)))
    layout_numbers: Natural = field(default_factory=lambda: Natural(length_tally(2)))
    exponents: Signed = field(default_factory=lambda: Signed(length_tally(2)))
    ranks: Signed = field(default_factory=lambda: Signed(length_tally()))
    state: MatrixState = field(default_factory=MatrixState)
    known: Iterator[KnownKind] = field(default_factory=lambda: iter(()))
    """For a writer: the kinds and contexts of the matrices that follow, known because their bits were counted before."""

    def integer(self, value: int | None, model: Single) -> int:
        return self.records.one(value, model)

    def step(self, step: float | None) -> float:
        """Code a step (1 + j / 2^precision) · 2^e: e as the difference from the last exponent, j as equally likely bits."""
        mantissa, exponent = (0, None) if step is None else split_step(step, self.precision)
        delta = self.integer(None if exponent is None else exponent - self.exponent, self.exponents)
        self.exponent = within(self.exponent + delta, *_EXPONENTS, "the exponent of a step")
        bits = self.integer(None if step is None else mantissa, Bits(self.precision)) if self.precision else 0
        return math.ldexp((1 << self.precision) + bits, self.exponent - self.precision)

    def matrix(self, symbols: Integers | None, rows: int, columns: int, profile: Frequencies | None = None) -> Integers:
        """Code symbols (rows, columns), along the longer side."""
        if columns > rows:
            return self.matrix(None if symbols is None else symbols.T, columns, rows, profile).T
        model = Matrix(rows, columns, self.state, profile, None if symbols is None else next(self.known, None))
        if symbols is not None and isinstance(self.records, _BitCounter):
            self.records.defer(symbols, model)
            return symbols
        flat = None if symbols is None else np.ascontiguousarray(symbols.T, dtype=np.int64).reshape(-1)
        return self.records.record(flat, model).reshape(columns, rows).T

    def tensor(self, coarse: CoarseTensor | None, spec: TensorSpec) -> CoarseTensor:
        form = self.form(coarse, spec)
        if form != _PIECES:
            assert coarse is None or not isinstance(coarse, Pieces)
            # Constants take almost no bits, so even a short payload may have many of them.
            if coarse is None and form not in (_ZERO, _ONE):
                self.count(1, spec)
            return self.piece(form, coarse, spec)
        assert coarse is None or isinstance(coarse, Pieces)
        layout = self.layout(None if coarse is None else coarse.layout, spec)
        pieces = []
        if coarse is None:
            self.count(layout.count, spec)
        for index, one in enumerate(pieces_of(spec, layout)):
            piece = None if coarse is None else coarse.pieces[index]
            form = self.form(piece, one)
            if form == _PIECES:
                raise FormatError(f"{spec.name}: a piece of it is in pieces: the payload is damaged")
            pieces.append(self.piece(form, piece, one))
        return coarse or Pieces(layout, tuple(pieces))

    def count(self, parts: int, spec: TensorSpec) -> None:
        """Count tensors and pieces that were read. Raises FormatError if they are too many for the length of the payload."""
        self.parts -= parts
        if self.parts < 0:
            raise FormatError(f"{spec.name}: more tensors and pieces than a payload of this length may have; it is damaged")

    def form(self, coarse: CoarseTensor | None, spec: TensorSpec) -> int:
        return self.integer(None if coarse is None else _form(coarse), self.forms if spec.quantizable else self.other_forms)

    def piece(self, form: int, coarse: Piece | None, spec: TensorSpec) -> Piece:
        if form in (_ZERO, _ONE):
            return Constant(int(form == _ONE))
        if not spec.quantizable and form == _LOW_RANK:
            raise FormatError(f"{spec.name}: no form for a tensor of {spec.dtype}, which is kept as it is: the payload is damaged")
        if form == _DENSE:
            assert coarse is None or isinstance(coarse, Dense)
            return self.dense(coarse, spec)
        if form == _LOW_RANK:
            assert coarse is None or isinstance(coarse, LowRank)
            return self.low_rank(coarse, spec)
        assert coarse is None or isinstance(coarse, Lossless)
        data = self.records.record(None if coarse is None else coarse.data, Planes(spec.raw_bytes, spec.dtype.itemsize))
        if spec.dtype == torch.bool and data.max(initial=0) > 1:
            raise FormatError(f"{spec.name}: a truth value is stored as {data.max()}, neither 0 nor 1: the payload is damaged")
        return Lossless(data.astype(np.uint8, copy=False))

    def dense(self, coarse: Dense | None, spec: TensorSpec) -> Dense:
        step = self.step(None if coarse is None else coarse.step) if spec.quantizable else 1.0
        m, n = matrix_shape(spec) or (spec.count, 1)
        symbols = self.matrix(None if coarse is None else coarse.symbols.reshape(m, n), m, n)
        return coarse or Dense(narrowed(symbols).reshape(spec.shape), step)

    def low_rank(self, coarse: LowRank | None, spec: TensorSpec) -> LowRank:
        shape = matrix_shape(spec)
        if shape is None:
            raise FormatError(f"{spec.name}: factors for a tensor of shape {spec.shape}, which is no matrix")
        m, n = shape
        delta = self.integer(None if coarse is None else coarse.rank - self.rank, self.ranks)
        self.rank = rank = within(self.rank + delta, 1, min(m, n), f"{spec.name}: rank")
        periods = (
            self.basis(None if coarse is None else coarse.periods[0], m, spec),
            self.basis(None if coarse is None else coarse.periods[1], n, spec),
        )
        step_b = step_a = self.step(None if coarse is None else coarse.step_a)
        if self.integer(None if coarse is None else int(coarse.step_b != step_a), self.unlike):
            step_b = self.step(None if coarse is None else coarse.step_b)
        A = self.matrix(None if coarse is None else coarse.A, m, rank)
        B = self.matrix(None if coarse is None else coarse.B, rank, n, _profile(A))
        if coarse is None:
            self.work -= multiplications(A, B, periods)
            if self.work < 0:
                raise FormatError(
                    f"{spec.name}: factors of rank {rank} take more work than a payload of this length may ask for; it is damaged"
                )
        return coarse or LowRank(narrowed(A), narrowed(B), step_a, step_b, periods)

    def layout(self, layout: Layout | None, spec: TensorSpec) -> Layout:
        """Code a layout: the axis and the number of blocks, or the mask of a folding."""
        if matrix_shape(spec) is None:
            raise FormatError(f"{spec.name}: pieces of a tensor of shape {spec.shape}, which is no matrix")
        kind, number = _layout(layout)
        kind = self.integer(kind, self.layouts)
        number = self.integer(number, self.layout_numbers)
        found = Folding(number) if kind == _FOLDING else Blocks(kind, number)
        if not found.fits(spec.shape):
            what = f"folding {number}" if kind == _FOLDING else f"{number} blocks along axis {kind}"
            raise FormatError(f"{spec.name}: a tensor of shape {spec.shape} has no {what}: the payload is damaged")
        return found

    def basis(self, period: int | None, rows: int, spec: TensorSpec) -> int:
        """Code the period of a side's basis, 0 for none. It is the last period, or it is coded as its difference from the number of rows."""
        if not 2 <= rows <= MOST_ROWS:
            return 0
        kind = None if period is None else _NO_BASIS if not period else _LAST_BASIS if period == self.period else _NEW_BASIS
        kind = self.integer(kind, self.bases)
        if kind == _NO_BASIS:
            return 0
        if kind == _NEW_BASIS:
            self.period = rows - self.integer(None if period is None else rows - period, self.margins)
        return within(self.period, 2, rows, f"{spec.name}: the period of a basis")


@functools.lru_cache(maxsize=1 << 12)
def split_step(step: float, precision: int = _MANTISSA_BITS) -> tuple[int, int]:
    """(j, e) with step = (1 + j / 2^precision) · 2^e exactly. Raises ValueError if the step has more bits than that."""
    fraction, exponent = math.frexp(step)
    scaled = math.ldexp(fraction, precision + 1)
    if scaled != int(scaled):
        raise ValueError(f"step {step!r} has more than {precision} bits behind its leading one")
    return int(scaled) - (1 << precision), exponent - 1


def encode(skeleton: Skeleton, tensors: Sequence[CoarseTensor], codec: Codec) -> bytes:
    """The payload of the coarse tensors, one for each tensor of `skeleton.real`."""
    writer = codec.writer()
    if isinstance(codec, Entropy):
        # The bits are counted first, because this finds the kind and the contexts of each matrix faster than coding does.
        writer.record(single(0), _Escape())
        _walk(_Walk(writer, known=iter(_weighed(skeleton, tensors, keep=True).known)), skeleton, tensors)
        return writer.finish()
    _walk(_Walk(writer), skeleton, tensors)
    return bytes([ESCAPE, number_of(codec)]) + writer.finish()


def lengths(skeleton: Skeleton, tensors: Sequence[CoarseTensor], codecs: Sequence[Codec]) -> list[int]:
    """Bytes of the payload under each codec. The input of byte compressors is made once for all of them."""
    data: bytes | None = None
    found = []
    for codec in codecs:
        if isinstance(codec, General):
            if data is None:
                writer = codec.writer()
                _walk(_Walk(writer), skeleton, tensors)
                data = writer.data
            # Two bytes for the escape and the number of the codec.
            found.append(2 + len(codec.compress(data)))
        else:
            found.append(len(encode(skeleton, tensors, codec)))
    return found


def decode(skeleton: Skeleton, payload: bytes, version: int = VERSION, *, checked: bool = True) -> tuple[Codec, list[CoarseTensor]]:
    """The codec that wrote the payload, and the coarse tensors in it.

    Args:
        skeleton: the skeleton of the file.
        payload: the bytes.
        version: the version of the format.
        checked: whether to check that the payload ends as an encoder ends it. A caller that has just encoded it needs no such check.

    Returns:
        The codec, and one coarse tensor for each tensor of `skeleton.real`.

    Raises:
        FormatError: the bytes aren't a payload of that version.
    """
    codec, length = CODECS[0], len(payload)
    if payload[:1] == bytes([ESCAPE]):
        # No payload names codec 0, so a payload that ends after the escape is refused.
        number = payload[1] if len(payload) > 1 else 0
        codec, payload = codec_numbered(number), payload[2:]
    reader: Reader
    if isinstance(codec, Entropy):
        reader = EntropyReader(payload, checked=checked and version > 1)
        within(int(reader.record(None, _Escape())[0]), 0, 0, "the first decision")
    else:
        reader = codec.reader(payload, sum(_most_bytes(spec) for spec in skeleton.real.tensors) + _OVERHEAD)
    work, parts = _allowed(skeleton, length)
    tensors = _walk(_Walk(reader, work, parts, state=MatrixState(version)), skeleton, None)
    reader.finish()
    return codec, tensors


def _allowed(skeleton: Skeleton, length: int) -> tuple[int, int]:
    """The largest numbers of multiplications and of parts for a payload of this length."""
    work = _FREE_WORK + _WORK_PER_ELEMENT * skeleton.real.parameters + _WORK_PER_BYTE * length
    return work, _FREE_PARTS + _PARTS_PER_BYTE * length


def count_bits(skeleton: Skeleton, tensors: Sequence[CoarseTensor], version: int = VERSION) -> list[float]:
    """The bits of each tensor: −log₂ of the probabilities under which the entropy codec codes it.

    Fields that tensors share, and the end of the payload, belong to no tensor. Apart from these, the bits add up to the bits of the file, for
    the version of the file and the entropy codec.
    """
    return _weighed(skeleton, tensors, version).bits


def _weighed(skeleton: Skeleton, tensors: Sequence[CoarseTensor], version: int = VERSION, *, keep: bool = False) -> "_BitCounter":
    counter = _BitCounter(len(tensors), keep)
    _walk(_Walk(counter, state=MatrixState(version)), skeleton, tensors)
    counter.settle()
    return counter


class _BitCounter:
    """Records whose bits are counted, and that are not written. Small matrices wait, and their bits are counted together.

    Attributes:
        bits: the bits of each tensor.
        known: for each matrix, its kind and contexts, which save a writer time. They are collected only if `keep` is set.
    """

    def __init__(self, count: int, keep: bool) -> None:
        self.known: list[KnownKind] = []
        self._keep = keep
        self._ledger = Ledger(count)
        self._waiting: list[tuple[int, Integers, Matrix]] = []
        self._symbols = 0

    @property
    def bits(self) -> list[float]:
        return self._ledger.parts

    def begin(self, index: int) -> None:
        """The following records belong to this tensor."""
        self._ledger.begin(index)

    def record(self, symbols: Integers | None, model: Model) -> Integers:
        if self._keep:  # only the kinds and contexts of matrices are needed, and these don't depend on other records
            assert symbols is not None
            return symbols
        return model.code(self._ledger, symbols)

    def one(self, value: int | None, model: Single) -> int:
        if self._keep:
            assert value is not None
            return value
        return model.one(self._ledger, value)

    def defer(self, symbols: Integers, model: Matrix) -> None:
        """Add a matrix (rows, columns) to those that wait."""
        self._waiting.append((self._ledger.part, symbols, model))
        self._symbols += model.count
        # The next small matrix might no longer fit.
        if model.count > LARGEST or self._symbols > MOST - LARGEST:
            self._weigh_deferred()

    def constant_or_dense(self, walk: "_Walk", tensors: Sequence[tuple[int, TensorSpec, CoarseTensor]]) -> None:
        """Count the bits of constants and dense tensors, given with their indices in the order of coding: all forms at once, then all steps.

        This is equal to coding one tensor after another, and much faster for many small tensors.
        """
        forms = [_DENSE if isinstance(coarse, Dense) else _form(coarse) for *_, coarse in tensors]  # saves the search of `_form`
        self._ledger.note(walk.forms.tally, forms, [index for index, *_ in tensors])
        dense = [(index, spec, coarse) for index, spec, coarse in tensors if isinstance(coarse, Dense)]
        if not dense:
            return
        indices = [index for index, *_ in dense]
        steps = [coarse.step for *_, coarse in dense]
        exponent_of = {step: split_step(step, walk.precision)[1] for step in set(steps)}
        exponents = np.array([exponent_of[step] for step in steps])
        changes = np.diff(exponents, prepend=walk.exponent)
        lengths = np.frexp(np.abs(changes))[1]
        self._ledger.note(walk.exponents.tally, lengths.tolist(), indices)
        # Bits after the leading one, the sign and the mantissa. All of them are equally likely, so each takes exactly one bit.
        taken = np.maximum(lengths - 1, 0) + (changes != 0) + walk.precision
        self._ledger.close()
        models: dict[tuple[int, ...], tuple[tuple[int, int], Matrix]] = {}  # tensors of one shape share a model, which has no state
        for (index, spec, coarse), bits in zip(dense, taken.tolist(), strict=True):
            if spec.shape not in models:
                m, n = matrix_shape(spec) or (spec.count, 1)
                models[spec.shape] = (m, n), Matrix(max(m, n), min(m, n), walk.state)
            shape, model = models[spec.shape]
            symbols = coarse.symbols.reshape(shape)
            self._ledger.parts[index] += bits
            self._ledger.part = index
            self.defer(symbols if shape[0] >= shape[1] else symbols.T, model)

    def settle(self) -> None:
        """Count the bits of everything that waits."""
        self._weigh_deferred()
        self._ledger.settle()

    def _weigh_deferred(self) -> None:
        """Count the bits of the matrices that wait: small ones together, and a large one, which is always the last, alone."""
        self._ledger.close()
        waiting, self._waiting, self._symbols = self._waiting, [], 0
        last = waiting.pop() if waiting and waiting[-1][2].count > LARGEST else None
        if waiting:
            models, symbols = [model for *_, model in waiting], [symbols for _, symbols, _ in waiting]
            weighed = weigh_together(models, symbols, models[0].state, keep=self._keep)
            for (place, *_), bits in zip(waiting, weighed.bits.tolist(), strict=True):
                self.bits[place] += bits
            self.known += weighed.known
        if last is not None:
            place, large, model = last
            bits, kind = model.weigh(np.ascontiguousarray(large.T, dtype=np.int64).reshape(-1))
            self.bits[place] += bits
            self.known.append(KnownKind(kind))


@dataclass(frozen=True)
class _Escape:
    """The first decision of an entropy-coded payload: always 0, with probability 255/256. So the first byte is never 0xFF."""

    count = 1
    bounds = (0, 1)

    def code(self, coder: Coder, symbols: Integers | None) -> Integers:
        return coder.categorical(symbols, np.array([255.0, 1.0]), 1)


def _walk(walk: _Walk, skeleton: Skeleton, tensors: Sequence[CoarseTensor] | None) -> list[CoarseTensor]:
    """Code all tensors in the order of their names, or in version 1 in the order of the skeleton. Read tensors are returned in the latter."""
    precision = None if tensors is None else _precision(tensors)
    walk.precision = within(walk.integer(precision, Categorical(_precision_tally())), 0, _MANTISSA_BITS, "the precision of steps")
    specs = skeleton.real.tensors
    order = range(len(specs)) if walk.state.version == 1 else skeleton.by_name
    if tensors is not None and isinstance(walk.records, _BitCounter) and _all_constant_or_dense(specs, tensors):
        walk.records.constant_or_dense(walk, [(index, specs[index], tensors[index]) for index in order])
        return []
    coded: dict[int, CoarseTensor] = {}
    for index in order:
        if isinstance(walk.records, _BitCounter):
            walk.records.begin(index)
        coarse = walk.tensor(None if tensors is None else tensors[index], specs[index])
        if tensors is None:  # a writer's tensors are not collected, because they would all be in memory at once
            coded[index] = coarse
    return [coded[index] for index in range(len(specs))] if tensors is None else []


def _all_constant_or_dense(specs: Sequence[TensorSpec], tensors: Sequence[CoarseTensor]) -> bool:
    """Whether all tensors are constant or dense, and of quantizable dtypes. A search counts the bits of many such tensors, many times."""
    return all(isinstance(coarse, Constant | Dense) for coarse in tensors) and all(spec.quantizable for spec in specs)


def _most_bytes(spec: TensorSpec) -> int:
    """The largest number of bytes of a tensor's records in a byte codec: two factors, each with at most one symbol for each element."""
    symbols, pieces = (2, 1 + MOST_BLOCKS) if spec.quantizable else (1, 1)
    return pieces * _OVERHEAD + max(spec.raw_bytes, 4 * symbols * spec.count)


def _precision_tally() -> Tally:
    """A tally for the precision of steps. Up to 3 bits, or all 52 bits of a float64, are more likely than a number between."""
    prior = np.ones(_MANTISSA_BITS + 1, dtype=np.int64)
    prior[:4] = prior[-1] = 64
    return Tally(prior)


def _precision(tensors: Sequence[CoarseTensor]) -> int:
    """The smallest number of mantissa bits with which every step is exact."""
    steps = set[float]()
    for tensor in tensors:
        for coarse in tensor.pieces if isinstance(tensor, Pieces) else (tensor,):
            if isinstance(coarse, Dense):  # integer tensors are dense with step 1, which needs no mantissa bits
                steps.add(coarse.step)
            elif isinstance(coarse, LowRank):
                steps |= {coarse.step_a, coarse.step_b}
    mantissas = {split_step(step)[0] for step in steps} - {0}
    # The lowest bit that is set in a mantissa is the last one that is needed.
    return max((_MANTISSA_BITS - ((mantissa & -mantissa).bit_length() - 1) for mantissa in mantissas), default=0)


def _form(coarse: CoarseTensor) -> int:
    match coarse:
        case Constant(value):
            return _ONE if value else _ZERO
        case Dense():
            return _DENSE
        case LowRank():
            return _LOW_RANK
        case Lossless():
            return _LOSSLESS
        case Pieces():
            return _PIECES


def _layout(layout: Layout | None) -> tuple[int, int] | tuple[None, None]:
    match layout:
        case Blocks(axis, count):
            return axis, count
        case Folding(mask):
            return _FOLDING, mask
        case _:
            return None, None


def _profile(A: Integers) -> Frequencies:
    """(k,) the mean magnitude of each component in the first factor, relative to the mean of all. Those of the second factor are similar."""
    # One more than each sum, so that no mean is 0.
    sums = np.abs(A).sum(axis=0, dtype=np.int64) + 1  # integer sums don't depend on the order of summation
    profile: Frequencies = sums.astype(np.float64) * (A.shape[1] / float(sums.sum()))
    return profile
