"""A second decoder of `.coarse` files, written from docs/format.md alone: plain Python numbers, one decision at a time.

It shares no line with the package, so that where both agree the page says what the program does. It checks nothing and is slow.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import struct
from functools import cache
from itertools import accumulate, pairwise, product
from math import cos, floor, isqrt, ldexp, pi, prod, sin

import zstandard

ITEM = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int64": 8, "int32": 4}
ITEM |= {"int16": 2, "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16}
PARTS = {"complex64": "float32", "complex128": "float64"}
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool")
MASK = 2**64 - 1


def decode(content, base=None):
    """A file's tensors by name, as the little-endian bytes of their elements; `base` is {name: (dtype, shape, such bytes)}."""
    version, skeleton_length, payload_length = struct.unpack_from("<HIQ", content, 8)
    skeleton = json.loads(content[22 : 22 + skeleton_length])
    if isinstance(skeleton[0], dict):
        assert skeleton.pop(0) == {"base": digest(base)}
    payload = content[22 + skeleton_length :][:payload_length]
    records = Bytes(payload) if payload[:1] == b"\xff" else Ranges(payload, version)
    precision = records.choice([64 if i in (0, 1, 2, 3, 52) else 1 for i in range(53)], 0, "precision")
    walk = Walk(records, precision)
    decoded = {}
    for names, dtype, shape in skeleton if version == 1 else sorted(skeleton, key=lambda entry: min(entry[0])):
        ordered = names if version == 1 else sorted(names)
        fitting = [base[name] for name in ordered if name in base and fits(base[name], dtype, shape)] if base else []
        data = walk.tensor(dtype, shape, *(fitting[0][::2] if fitting else ()))
        decoded |= dict.fromkeys(names, data)
    return {name: decoded[name] for names, *_ in skeleton for name in names}


def indices(shape, order=None):
    """Indices into a shape, row-major, of the axes in that order."""
    return product(*(range(shape[axis]) for axis in (range(len(shape)) if order is None else order)))


def digest(base):
    whole = hashlib.sha256()
    for name in sorted(base):
        dtype, shape, data = base[name]
        whole.update(json.dumps([name, dtype, list(shape)], separators=(",", ":"), ensure_ascii=False).encode() + b"\n" + data)
    return whole.hexdigest()


def fits(tensor, dtype, shape):
    kind, other = (2 if name in PARTS else name if name in INTEGERS else 1 for name in (tensor[0], dtype))
    return kind == other and list(tensor[1]) == list(shape)


class Walk:
    def __init__(self, records, precision):
        self.records, self.precision = records, precision
        self.exponent, self.rank, self.period = -4, 8, 0

    def tensor(self, dtype, shape, base_dtype=None, base=None):
        """The bytes of a tensor whose base, if it has one, is of that dtype and has those bytes."""
        if dtype in PARTS:
            return self.tensor(PARTS[dtype], [*shape, 2], None if base is None else PARTS[base_dtype], base)
        count = prod(shape)
        form = (
            self.records.choice([8, 32, 1, 8, 16], 8, "forms of others")
            if dtype in INTEGERS
            else self.records.choice([64, 64, 64, 32, 32, 1], 64, "forms")
        )
        if form == 5:
            return self.pieces(dtype, shape, base_dtype, base)
        values = None if base is None else numbers(base, base_dtype)
        if form == 4:
            data = self.records.planes(count * ITEM[dtype], ITEM[dtype])
            return data if base is None else bytes(x ^ y for x, y in zip(data, rounded_all(values, dtype), strict=True))
        if form in (0, 3) and base is None:
            return one(dtype) * count if form == 3 else bytes(count * ITEM[dtype])
        d = [form // 3] * count if form in (0, 3) else self.differences(form, dtype, shape, count)
        if base is None:
            return rounded_all(d, dtype)
        if dtype in INTEGERS:
            # Modulo the dtype's range: the low bytes of the sum, in which a bool is its lowest bit.
            width = ITEM[dtype]
            sums = [(x + y) % (2 if dtype == "bool" else 256**width) for x, y in zip(values, d, strict=True)]
            return b"".join(s.to_bytes(width, "little") for s in sums)
        return rounded_all([x + y if y and abs(x) != float("inf") else x for x, y in zip(values, d, strict=True)], dtype)

    def pieces(self, dtype, shape, base_dtype, base):
        """The bytes of a tensor in pieces: where each piece's elements stand in it, and what they are there."""
        kind = self.records.choice([8, 8, 8], 8, "layouts")
        number = self.records.natural(2, "layout numbers")
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        if kind == 2:
            long = [axis for axis in range(len(shape)) if shape[axis] > 1]
            rows = [axis for i, axis in enumerate(long) if i == 0 or number >> (i - 1) & 1]
            order = rows + [axis for axis in range(len(shape)) if axis not in rows]
            places = [[sum(i * strides[axis] for i, axis in zip(index, order, strict=True)) for index in indices(shape, order)]]
            shapes = [[prod(shape[axis] for axis in rows), prod(shape[axis] for axis in order[len(rows) :])]]
        else:
            extent = shape[kind] // number
            shapes = [[extent if axis == kind else size for axis, size in enumerate(shape)]] * number
            places = [
                [
                    sum(i * stride for i, stride in zip(index, strides, strict=True)) + block * extent * strides[kind]
                    for index in indices(one)
                ]
                for block, one in enumerate(shapes)
            ]
        found, width = [b""] * prod(shape), ITEM[dtype]
        for one, where in zip(shapes, places, strict=True):
            wide = ITEM[base_dtype] if base is not None else 0
            piece = None if base is None else b"".join(base[wide * i : wide * (i + 1)] for i in where)
            data = self.tensor(dtype, one, base_dtype, piece)
            for i, place in enumerate(where):
                found[place] = data[width * i : width * (i + 1)]
        return b"".join(found)

    def differences(self, form, dtype, shape, count):
        """What the symbols of a dense or low-rank tensor stand for."""
        m, n = (shape[0], prod(shape[1:])) if len(shape) > 1 and count else (count, 1)
        if form == 1:
            step = 1 if dtype in INTEGERS else self.step()
            return [symbol * step for row in self.records.matrix(m, n) for symbol in row]
        self.rank = k = self.rank + self.records.signed(3, "ranks")
        periods = self.basis(m), self.basis(n)
        scale = step = self.step()
        scale *= self.step() if self.records.choice([8, 8], 8, "likeness") else step
        for period in periods:
            scale *= 2.0 ** -(10 + period.bit_length() // 2 if period else 0)
        A = self.records.matrix(m, k)
        q = [1 + sum(abs(row[i]) for row in A) for i in range(k)]
        B = self.records.matrix(k, n, [float(size) * (k / float(sum(q))) for size in q])
        A = multiplied(A, periods[0])
        B = [list(row) for row in zip(*multiplied([list(row) for row in zip(*B, strict=True)], periods[1]), strict=True)]
        return [float(sum(A[i][r] * B[r][j] for r in range(k))) * scale for i in range(m) for j in range(n)]

    def basis(self, m):
        kind = self.records.choice([48, 4, 4], 8, "bases") if 2 <= m <= 1024 else 0
        if kind == 2:
            self.period = m - self.records.natural(3, "margins")
        return self.period if kind else 0

    def step(self):
        self.exponent += self.records.signed(2, "exponents")
        j = self.records.bits(self.precision) if self.precision else 0
        return ldexp(2**self.precision + j, self.exponent - self.precision)


class Ranges:
    """Records that come from the range coder."""

    def __init__(self, payload, version=2):
        self.version, self.first = version, 32 if version == 1 else 4
        self.lines = {}
        self.stream = io.BytesIO(payload)
        self.range, self.point = MASK, self.read(8)
        self.state = {}
        self.tables = [list(geometric(c)) for c in range(64)]
        assert self.categorical([255, 1]) == 0

    def read(self, count):
        return int.from_bytes(self.stream.read(count).ljust(count, b"\0"), "big")

    def decision(self, lefts):
        scale = self.range >> 24
        quantile = self.point // scale
        s = next(i for i, (low, high) in enumerate(pairwise(lefts)) if low <= quantile < high)
        self.point -= scale * lefts[s]
        self.range = scale * (lefts[s + 1] - lefts[s])
        if self.range < 2**32:
            self.range <<= 32
            self.point = self.point << 32 | self.read(4)
        return s

    def categorical(self, frequencies):
        A = len(frequencies)
        if A == 1:
            return 0
        r = float(2**24 - A) / float(sum(frequencies))
        lefts = [floor(float(C) * r) + s for s, C in enumerate(accumulate(frequencies[:-1], initial=0))]
        return self.decision([*lefts, 2**24])

    def wide(self, width, count=1):
        values = [0] * count
        first = width % 16 or 16
        for bits in [first] + [16] * ((width - first) // 16) if width else []:
            values = [value << bits | self.uniform(bits) for value in values]
        return values

    def uniform(self, bits):
        scale = (self.range >> 24) << (24 - bits)
        s = self.point // scale
        self.point -= scale * s
        self.range = scale
        if self.range < 2**32:
            self.range <<= 32
            self.point = self.point << 32 | self.read(4)
        return s

    def choice(self, prior, gain, name):
        tally = self.state.setdefault(name, list(prior))
        s = self.categorical(tally)
        tally[s] += gain
        return s

    def natural(self, t, name):
        length = self.choice([max(1, 64 >> abs(i - t)) for i in range(32)], 16, name)
        return 2 ** (length - 1) + self.wide(length - 1)[0] if length else 0

    def naturals(self, t, count):
        lengths = self.adaptive([max(1, 64 >> abs(i - t)) for i in range(32)], 16, count)
        values = [2**length // 2 for length in lengths]
        for width in range(1, 31):
            mine = [i for i, length in enumerate(lengths) if length == width + 1]
            for i, low in zip(mine, self.wide(width, len(mine)), strict=True):
                values[i] += low
        return values

    def signed(self, t, name):
        magnitude = self.natural(t, name)
        return -magnitude if magnitude and self.uniform(1) else magnitude

    def bits(self, width):
        return self.wide(width)[0]

    def adaptive(self, tally, gain, count, first=None):
        symbols = []
        while len(symbols) < count:
            size = min(max(first or self.first, len(symbols) // 2), count - len(symbols))
            block = [self.categorical(tally) for _ in range(size)]
            for s in block:
                tally[s] += gain
            symbols += block
        return symbols

    def planes(self, count, width):
        planes = [self.adaptive([1] * 256, 2, count // width, 32) for _ in range(width)]
        return bytes(byte for number in zip(*planes, strict=True) for byte in number)

    def matrix(self, m, n, profile=None):
        R, C = max(m, n), min(m, n)
        columns = self.columns(R, C, profile or [1.0] * C)
        return columns if n > m else [list(row) for row in zip(*columns, strict=True)]

    def columns(self, R, C, profile):
        peak = self.natural(3, "peaks") if R * C else 0
        if not peak:
            return [[0] * R for _ in range(C)]
        if self.version > 1 and self.choice([8, 1], 2, "marked"):
            return self.alive(R, C, profile, peak)
        return self.cells(R, C, profile, peak)

    def alive(self, R, C, profile, peak):
        columns, rows = self.marks(C), self.marks(R)
        if len(columns) > len(rows):
            turned = self.cells(len(columns), len(rows), [1.0] * len(rows), peak)
            cells = [list(column) for column in zip(*turned, strict=True)]
        else:
            cells = self.cells(len(rows), len(columns), [profile[j] for j in columns], peak)
        whole = [[0] * R for _ in range(C)]
        for j, column in zip(columns, cells, strict=True):
            for i, value in zip(rows, column, strict=True):
                whole[j][i] = value
        return whole

    def marks(self, count):
        """The places of the lines that are alive."""
        last, dead = self.lines.get(count), [0] * count
        for group, prior in enumerate(([1, 1], [8, 1], [1, 8])):
            tally = self.state.setdefault(("dead", group), prior) if group else prior
            mine = [i for i in range(count) if (0 if last is None else 1 + last[i]) == group]
            for i, mark in zip(mine, self.adaptive(tally, 2, len(mine)), strict=True):
                dead[i] = mark
        self.lines[count] = dead
        return [i for i in range(count) if not dead[i]]

    def cells(self, R, C, profile, peak):
        if kind := self.choice([1, 1, 1], 2, "kinds"):
            for own in ("low", "size"):
                self.state.pop(own, None)
            low = self.signed(3, "low")
            size = self.natural(3, "size")
            values = list(accumulate([1] * size if kind == 1 else [gap + 1 for gap in self.naturals(3, size)], initial=low))
            symbols = [values[s] for s in self.adaptive([1] * (size + 1), 4, R * C)]
            return [symbols[j * R : (j + 1) * R] for j in range(C)]
        columns = self.magnitudes(R, C, profile, peak)
        negative = iter(self.adaptive([8, 8], 2, sum(v > 0 for column in columns for v in column), 32))
        return [[-v if v and next(negative) else v for v in column] for column in columns]

    def magnitudes(self, R, C, profile, peak):
        start = grid_mean(self.choice([1] * 44, 16, "levels"))
        A = sum(floor_of(t) <= peak for t in range(124))
        columns, rows, S = [], [0] * R, 0
        for j in range(C):
            column, c = [], 0
            while (a := len(column)) < R:
                g = (float(S) + 32.0 * start) / float(j * R + a + 32)
                gamma = (float(c) + 8.0 * (g * profile[j])) / float(a + 8)
                last = min(R, 2 * a if a else 32)
                mus = [gamma * ((float(r) + 4.0 * g) / (g * (j + 4.0))) for r in rows[a:last]]
                contexts = [sum(grid_mean(i) <= mu for i in range(1, 64)) for mu in mus]
                tokens = [self.categorical(self.tables[context][:A]) for context in contexts]
                for context, token in zip(contexts, tokens, strict=True):
                    self.tables[context][token] += 192
                block = [floor_of(token) for token in tokens]
                for width in range(2, 29):
                    mine = [i for i, token in enumerate(tokens) if token >= 16 and (token - 16) // 4 + 2 == width]
                    for i, low in zip(mine, self.wide(width, len(mine)), strict=True):
                        block[i] += low
                column += block
                c += sum(block)
                S += sum(block)
            columns.append(column)
            rows = [r + v for r, v in zip(rows, column, strict=True)]
        return columns


class Bytes:
    """Records that come from a byte codec."""

    def __init__(self, payload):
        unpack = {
            1: bz2.decompress,
            2: lzma.decompress,
            3: gzip.decompress,
            4: lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
        }
        self.stream = io.BytesIO(unpack[payload[1]](payload[2:]))

    def take(self, width, signed):
        return int.from_bytes(self.stream.read(width), "little", signed=signed)

    def choice(self, *_):
        return self.take(1, False)

    def signed(self, *_):
        return self.take(4, True)

    def bits(self, width):
        return self.take(next(b for b in (1, 2, 4, 8) if 8 * b >= width), False)

    def natural(self, *_):
        return self.take(4, False)

    def planes(self, count, _):
        return self.stream.read(count)

    def matrix(self, m, n, _=None):
        R, C = max(m, n), min(m, n)
        width = self.take(1, False)
        columns = [[self.take(width, True) for _ in range(R)] for _ in range(C)]
        return columns if n > m else [list(row) for row in zip(*columns, strict=True)]


def multiplied(factor, period):
    """T · factor, for a factor of m rows."""
    if not period:
        return factor
    T = [[wave(i, j, period) if max(i, j) < period else 0 for j in range(len(factor))] for i in range(len(factor))]
    for i in range(period, len(factor)):
        T[i][i] = isqrt(period * 2**20)
    return [[sum(t * row[c] for t, row in zip(basis, factor, strict=True)) for c in range(len(factor[0]))] for basis in T]


def wave(i, j, period):
    f = (j + 1) // 2
    if j == 0 or 2 * f == period:
        return -1024 if j and i % 2 else 1024
    return round(2**10.5 * (cos if j % 2 else sin)(2 * pi * f * i / period))


def floor_of(token):
    return token if token < 16 else 16 + 4 * ((token - 16) % 4) << (token - 16) // 4


def grid_mean(c):
    return ldexp(1.0 if c % 2 == 0 else float.fromhex("0x1.6a09e667f3bcdp+0"), (c - 14) // 2)


@cache
def geometric(c):
    theta = grid_mean(c) / (1.0 + grid_mean(c))
    powers = [theta]
    while len(powers) < 32:
        powers.append(powers[-1] * powers[-1])
    tails = []
    for token in range(125):
        tail = 1.0
        for b in range(32):
            if floor_of(token) >> b & 1:
                tail *= powers[b]
        tails.append(tail)
    return [1 + floor(4096.0 * (low - high)) for low, high in pairwise(tails)]


def rounded_all(values, dtype):
    if dtype in INTEGERS:
        return b"".join(value.to_bytes(ITEM[dtype], "little", signed=value < 0) for value in values)
    return b"".join(rounded(value, dtype) for value in values)


def numbers(data, dtype):
    """The numbers that little-endian bytes of a dtype stand for."""
    width = ITEM[dtype]
    elements = [data[i : i + width] for i in range(0, len(data), width)]
    if dtype in INTEGERS:
        return [int.from_bytes(element, "little", signed=dtype.startswith("int")) for element in elements]
    if dtype in SMALL:
        of, top, _ = SMALL[dtype]
        return [small(int.from_bytes(element, "little"), of, top, 8 * width - 1) for element in elements]
    return [struct.unpack({"float64": "<d", "float32": "<f", "float16": "<e"}[dtype], element)[0] for element in elements]


def small(bits, of, top, sign):
    size = bits & (1 << sign) - 1
    magnitude = float("inf") if size == top and top != 0x7E else of(size)
    return -magnitude if bits >> sign else magnitude


def rounded(value, dtype):
    """The little-endian bytes of a float64 rounded once to a quantizable dtype."""
    if dtype == "float64":
        return struct.pack("<d", value)
    if dtype in SMALL:
        return nearest(value, *SMALL[dtype])
    code = {"float32": "<f", "float16": "<e"}[dtype]
    try:
        return struct.pack(code, value)
    except OverflowError:
        return struct.pack(code, float("inf") if value > 0 else float("-inf"))


def nearest(value, of, top, size):
    """Search for the nearest of all numbers of a small dtype with the value's sign: their bits ascend with their size.

    `of` gives the number that bits stand for, and `top` is what a value beyond the largest of them gets: an infinity, or that one.
    """
    sign = struct.pack(">d", value)[0] >> 7
    low, high = 0, top
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of(middle) <= abs(value) else (low, middle)
    # An infinity counts as the number that would come next, if there were one.
    below, above = of(low), of(high) if high < top or top == 0x7E else 2 * of(top - 1) - of(top - 2)
    bits = low if abs(value) - below < above - abs(value) or (abs(value) - below == above - abs(value) and low % 2 == 0) else high
    return (bits | sign << (8 * size - 1)).to_bytes(size, "little")


def of_bfloat16(bits):
    return struct.unpack(">f", struct.pack(">I", bits << 16))[0]


def of_e5m2(bits):
    return struct.unpack(">e", struct.pack(">H", bits << 8))[0]


def of_e4m3fn(bits):
    exponent, mantissa = bits >> 3, bits & 7
    return ldexp(8 + mantissa, exponent - 10) if exponent else ldexp(mantissa, -9)


SMALL = {"bfloat16": (of_bfloat16, 0x7F80, 2), "float8_e5m2": (of_e5m2, 0x7C, 1), "float8_e4m3fn": (of_e4m3fn, 0x7E, 1)}


def one(dtype):
    floats = {"float64": "000000000000f03f", "float32": "0000803f", "float16": "003c", "bfloat16": "803f"}
    floats |= {"float8_e4m3fn": "38", "float8_e5m2": "3c"}
    return bytes.fromhex(floats[dtype]) if dtype in floats else (1).to_bytes(ITEM[dtype], "little")
