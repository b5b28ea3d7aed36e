"""A picture as plain data: panels with lines, areas and levels, one below the other, with the same horizontal axis."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nncomplexity.words import number_in, unit_for

NEUTRAL = -1
"""The colour of elements that are neither a run nor an ε: grey."""
DASHES = ("solid", "dashed", "dotted")
LOW = 0.62
"""The height of a lower panel, relative to the first."""
MOST_TICKS_AT_VALUES = 7
"""Up to this number, each step or ε gets its own tick. With more, ticks are at round values."""


@dataclass(frozen=True)
class Line:
    """y over x. `error` is a standard error, drawn as a band. `base` makes an area between it and y. Colours are counted from 0.

    The `error` of an area belongs to its upper edge, for example that of a whole stack.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] = ()
    base: tuple[float, ...] = ()
    colour: int = 0
    dash: str = "solid"
    marks: bool = False
    hollow: tuple[bool, ...] = ()
    """The hollow marks; none by default. They are drawn even on a line without other marks."""
    drawn: bool = True
    """False for marks without a line."""
    faint: bool = False
    """True for a line that only gives context to the others."""

    @property
    def marked(self) -> tuple[tuple[float, float, bool], ...]:
        """x, y and whether it is hollow, for each point with a mark."""
        hollow = self.hollow or (False,) * len(self.x)
        return tuple(one for one in zip(self.x, self.y, hollow, strict=True) if self.marks or one[2])


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line."""

    value: float
    label: str
    colour: int = NEUTRAL


@dataclass(frozen=True)
class Axis:
    """`zero_at` is the position of x = 0 on a logarithmic axis. `names` are ticks with names instead of numbers.

    If `unit` is "bytes" or "bits", values are in this unit, and `heading` and `ticks` use a multiple of it.
    """

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None
    zero_at: float | None = None
    names: tuple[str, ...] = ()
    unit: str = ""
    marks: tuple[float, ...] = ()
    """The positions of the ticks; round values by default."""
    largest: float = 0.0
    """The largest value of the axes with the same unit, if it is larger than that of this axis."""

    @property
    def scale(self) -> tuple[str, float]:
        """The unit in the axis's label, and its size in `unit`; ("", 1) for an axis without a unit."""
        return unit_for(self.unit, max((self.limits or (0.0, 1.0))[1], self.largest)) if self.unit else ("", 1.0)

    @property
    def heading(self) -> str:
        """The label with the unit.

        >>> Axis("complexity", limits=(0, 50_000), unit="bytes").heading
        'complexity (kB)'
        """
        return f"{self.label} ({self.scale[0]})" if self.unit else self.label


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `bars` draws areas as one bar for each x."""

    y: Axis
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    title: str = ""
    share: float = 1.0
    """Its height relative to the other panels."""
    bars: bool = False


@dataclass(frozen=True)
class Key:
    """An entry of the legend for a kind of mark or line, for all colours."""

    label: str
    mark: str
    """"filled" or "hollow" for marks, or "dotted" for a line."""


@dataclass(frozen=True)
class Chart:
    """A figure. `keys` and `notes` explain it to the reader, by signs and in words."""

    kind: str
    title: str
    x: Axis
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    stepped: bool = False
    """Whether x is the training step."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, and its label."""

    value: float
    label: str


def steps_axis(lines: Iterable[Line], label: str = "training step") -> Axis:
    """A logarithmic axis. Step 0 is a little left of the first other step, with a tick that says 0."""
    steps = sorted({x for line in lines for x in line.x})
    # 0 has no logarithm: it gets a place of its own.
    positive = [x for x in steps if x > 0]
    marks = tuple(steps) if 1 < len(steps) <= MOST_TICKS_AT_VALUES else ()
    if len(positive) < 2:
        low, high = min(steps, default=0.0), max(steps, default=1.0)
        return Axis(label, limits=(low, high) if high > low else (0.0, 2 * high or 1.0), marks=marks)
    first, last = positive[0], positive[-1]
    # At least 6 % of the axis, so that the label of 0 doesn't overlap the next one.
    gap = max((last / first) ** 0.06, 1.6)
    zero = first / gap if steps[0] <= 0 else None
    return Axis(label, log=True, limits=(zero or first, last), zero_at=zero, marks=marks)


def heights(lines: Iterable[Line], levels: Iterable[Level] = ()) -> Iterator[float]:
    """The values of a vertical axis: the lines with their bands, and the levels."""
    for line in lines:
        error = line.error or (0.0,) * len(line.y)
        for value, half in zip(line.y, error, strict=True):
            yield value - half
            yield value + half
        yield from line.base
    yield from (level.value for level in levels)


def values_axis(label: str, values: Iterable[float], *, log: bool | None = None, unit: str = "") -> Axis:
    """From 0 to a little above the largest value. Logarithmic if `log` says so, or if the positive values span a factor of 30."""
    every = [value for value in values if math.isfinite(value)]
    low, high = min(every, default=0.0), max(every, default=1.0)
    if log is None:
        log = low > 0 and high / low > 30
    if log and low > 0:
        return Axis(label, log=True, limits=(low / 1.25, high * 1.25), unit=unit)
    return Axis(label, limits=(1.06 * low if low < 0 else 0.0, high * 1.06 if high > 0 else 1.0), unit=unit)


def in_one_unit(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with sizes in one unit, which fits the largest of them."""
    largest = max((panel.y.limits[1] for panel in panels if panel.y.unit and panel.y.limits), default=0.0)
    return [replace(panel, y=replace(panel.y, largest=largest)) if panel.y.unit else panel for panel in panels]


def place(axis: Axis, value: float) -> float:
    """The position of a value on the axis, from 0 to 1 between its limits."""
    low, high = axis.limits or (0.0, 1.0)
    if not axis.log:
        return (value - low) / (high - low)
    # Zero and negative values have no logarithm, and are far below the axis. If `low` is one of the smallest floats, a thousandth of it is 0.
    at = axis.zero_at if value <= 0 and axis.zero_at else max(value, low * 1e-3) or low
    return (math.log(at) - math.log(low)) / (math.log(high) - math.log(low))


def drawn_at(axis: Axis, values: Sequence[float]) -> list[float]:
    """The values, with 0 at its position on a logarithmic axis."""
    return [axis.zero_at if axis.zero_at and value <= 0 else value for value in values]


def ticks(axis: Axis, most: int = 6) -> list[Tick]:
    """About `most` round values between the limits.

    >>> [tick.label for tick in ticks(Axis("complexity", limits=(0, 20_000), unit="bytes"), 5)]  # its heading says kB
    ['0', '5', '10', '15', '20']
    >>> [tick.label for tick in ticks(Axis("step", log=True, limits=(4, 2000), zero_at=4))]
    ['0', '10', '100', '1k']
    """
    low, high = axis.limits or (0.0, 1.0)
    if axis.names:
        return [Tick(float(index), name) for index, name in enumerate(axis.names)]
    if axis.marks:
        return [Tick(drawn_at(axis, [value])[0], exact(value)) for value in axis.marks]
    _, size = axis.scale
    if not axis.log:
        return [Tick(value, _said(value, axis)) for value in _linear(low / size, high / size, most, size)]
    # A label very close to that of 0 would overlap it.
    floor = low if axis.zero_at is None else low * 1.3
    # A power of ten may have a logarithm slightly below a whole number.
    decades = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high) + 1e-9) + 1)]
    every = math.ceil(len(decades) / most) if decades else 1
    values = [value for value in decades[::every] if value >= floor]
    # Few powers of ten don't show the scale, so 2 and 5 times each of them are added.
    if len(values) < 3:
        fine = [
            digit * 10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for digit in (1, 2, 5)
        ]
        values = [value for value in fine if floor <= value <= high * 1.0001]
        values = values[:: math.ceil(len(values) / most)] if values else [low, high]
    zero = [Tick(axis.zero_at, "0")] if axis.zero_at is not None else []
    return zero + [Tick(value, _said(value, axis)) for value in values]


def _linear(low: float, high: float, most: int, size: float) -> list[float]:
    """Round multiples of `size` between `low` and `high`."""
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # The tolerances here and below are for rounding: a step that just fits is taken, and a limit at a multiple of it has a tick.
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * index * size for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _said(value: float, axis: Axis) -> str:
    return number_in(value / axis.scale[1]) if axis.unit else short(value)


def short(value: float) -> str:
    """A number as the text of a tick: 2500 as 2.5k, 0.00001 as 10⁻⁵.

    >>> [short(value) for value in (0, 0.25, 1500, 20_000, 3e6, 1e-5, 2e-5)]
    ['0', '0.25', '1.5k', '20k', '3M', '10⁻⁵', '2e-05']
    """
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # A little below the unit, because four digits would round 999.99 to 1000.
        if abs(value) >= unit * 0.9999:
            return f"{value / unit:.4g}{sign}"
    if 0 < abs(value) < 1e-3 and value > 0 and abs(math.log10(value) - round(math.log10(value))) < 1e-9:
        return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.4g}"


def exact(value: float) -> str:
    """A given number as the text of a tick. Whole numbers keep all their digits.

    >>> [exact(value) for value in (0, 0.003, 300, 12_345)]
    ['0', '0.003', '300', '12,345']
    """
    return f"{value:,.0f}" if value >= 1 and value == round(value) and value < 1e7 else short(value)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions for labels, as near as possible to the wanted ones, and at least `gap` apart.

    They are between low and high, if there is space.

    >>> spread([0.5, 0.5, 0.1], 0.1, 0.0, 1.0)
    [0.45, 0.55, 0.1]
    """
    # Labels that would overlap become one group around the mean of their positions. Two groups that would overlap become one.
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[tuple[float, list[int]]] = []
    for index in order:
        groups.append((wanted[index], [index]))
        while len(groups) > 1:
            (below, lower), (above, upper) = groups[-2:]
            # Groups that are exactly `gap` apart must stay apart in spite of rounding.
            if above - below >= gap * (len(lower) + len(upper)) / 2 - 1e-12:
                break
            members = lower + upper
            groups[-2:] = [((below * len(lower) + above * len(upper)) / len(members), members)]
    found = [0.0] * len(wanted)
    floor = low
    for middle, members in groups:
        half = gap * (len(members) - 1) / 2
        first = max(min(middle, high - half) - half, floor)
        for position, index in enumerate(members):
            found[index] = round(first + gap * position, 9)
        floor = first + gap * len(members)
    return found
