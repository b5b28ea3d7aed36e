"""A picture as plain data: panels one below the other over one horizontal axis, in them lines, areas and levels."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nncomplexity.words import number_in, unit_for

NEUTRAL = -1
"""The colour of what is no run and no ε: greys."""
DASHES = ("solid", "dashed", "dotted")
LOW = 0.62
"""The height of a panel that stands below the first, beside that one's."""
MOST_TICKS_AT_VALUES = 7
"""Steps or ε that each get a tick of their own; more of them stand beside round values."""


@dataclass(frozen=True)
class Line:
    """y over x. `error` is a standard error, drawn as a band; `base` makes an area between it and y. Colours are counted from 0.

    An area's `error` is that of its upper edge, as of a whole stack.
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
    """Which marks are drawn hollow; none unless given. Those are drawn on a line without other marks, too."""
    drawn: bool = True
    """False for marks without a line."""
    faint: bool = False
    """True for what only gives the other lines a place."""

    @property
    def marked(self) -> tuple[tuple[float, float, bool], ...]:
        """x, y and whether it is hollow, of each point that has a mark."""
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
    """`zero_at` is where x = 0 stands on a logarithmic axis; `names` are ticks of a kind of their own.

    Values of an axis whose `unit` is "bytes" or "bits" are in it; `heading` and `ticks` say them in one of its multiples.
    """

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None
    zero_at: float | None = None
    names: tuple[str, ...] = ()
    unit: str = ""
    marks: tuple[float, ...] = ()
    """Where the ticks stand; at round values unless given."""
    largest: float = 0.0
    """The largest value of the axes that share its unit, where that is beyond its own."""

    @property
    def scale(self) -> tuple[str, float]:
        """The name of the one unit that the axis is labelled in, and how many of `unit` it is; ("", 1) for an axis without."""
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
    """Its height beside the other panels'."""
    bars: bool = False


@dataclass(frozen=True)
class Key:
    """An entry of the legend on a kind of mark or line, whatever its colour."""

    label: str
    look: str
    """"filled" or "hollow" for marks, or "dotted" for a line."""


@dataclass(frozen=True)
class Chart:
    """A figure; `keys` and `notes` say what a reader has to know, as signs and in words."""

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
    """A mark on an axis, and what stands beside it."""

    value: float
    label: str


def steps_axis(lines: Iterable[Line], label: str = "training step") -> Axis:
    """A logarithmic axis on which step 0 stands a little left of the first other step, where its tick says 0."""
    steps = sorted({x for line in lines for x in line.x})
    # 0 has no logarithm: it gets a place of its own.
    positive = [x for x in steps if x > 0]
    marks = tuple(steps) if 1 < len(steps) <= MOST_TICKS_AT_VALUES else ()
    if len(positive) < 2:
        low, high = min(steps, default=0.0), max(steps, default=1.0)
        return Axis(label, limits=(low, high) if high > low else (0.0, 2 * high or 1.0), marks=marks)
    first, last = positive[0], positive[-1]
    gap = max((last / first) ** 0.06, 1.6)
    zero = first / gap if steps[0] <= 0 else None
    return Axis(label, log=True, limits=(zero or first, last), zero_at=zero, marks=marks)


def heights(lines: Iterable[Line], levels: Iterable[Level] = ()) -> Iterator[float]:
    """All that a vertical axis has to hold: the lines with their bands, and the levels."""
    for line in lines:
        error = line.error or (0.0,) * len(line.y)
        for value, half in zip(line.y, error, strict=True):
            yield value - half
            yield value + half
        yield from line.base
    yield from (level.value for level in levels)


def values_axis(label: str, values: Iterable[float], *, log: bool | None = None, unit: str = "") -> Axis:
    """From 0 to a little above the largest; logarithmic where `log` says so, or where positive values span a factor of 30."""
    every = [value for value in values if math.isfinite(value)]
    low, high = min(every, default=0.0), max(every, default=1.0)
    if log is None:
        log = low > 0 and high / low > 30
    if log and low > 0:
        return Axis(label, log=True, limits=(low / 1.25, high * 1.25), unit=unit)
    return Axis(label, limits=(1.06 * low if low < 0 else 0.0, high * 1.06 if high > 0 else 1.0), unit=unit)


def in_one_unit(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with sizes, of which a figure may have several, in the unit that fits the largest."""
    largest = max((panel.y.limits[1] for panel in panels if panel.y.unit and panel.y.limits), default=0.0)
    return [replace(panel, y=replace(panel.y, largest=largest)) if panel.y.unit else panel for panel in panels]


def with_limits(axis: Axis, low: float, high: float) -> Axis:
    """The axis from `low` to `high`."""
    return replace(axis, limits=(low, high))


def place(axis: Axis, value: float) -> float:
    """Where a value stands on the axis, from 0 to 1 between its limits."""
    low, high = axis.limits or (0.0, 1.0)
    if not axis.log:
        return (value - low) / (high - low)
    at = axis.zero_at if value <= 0 and axis.zero_at else max(value, low * 1e-3) or low  # of the least floats that share is 0
    return (math.log(at) - math.log(low)) / (math.log(high) - math.log(low))


def drawn_at(axis: Axis, values: Sequence[float]) -> list[float]:
    """The values, 0 moved to where it stands on a logarithmic axis."""
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
    floor = low if axis.zero_at is None else low * 1.3
    decades = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high) + 1e-9) + 1)]
    every = math.ceil(len(decades) / most) if decades else 1
    values = [value for value in decades[::every] if value >= floor]
    if len(values) < 3:
        fine = [
            digit * 10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for digit in (1, 2, 5)
        ]
        values = [value for value in fine if floor <= value <= high * 1.0001]
        values = values[:: math.ceil(len(values) / most)] if values else [low, high]
    zero = [Tick(axis.zero_at, "0")] if axis.zero_at is not None else []
    return zero + [Tick(value, _said(value, axis)) for value in values]


def _linear(low: float, high: float, most: int, size: float) -> list[float]:
    """Round multiples of `size` between `low` and `high`, which count it."""
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * index * size for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _said(value: float, axis: Axis) -> str:
    return number_in(value / axis.scale[1]) if axis.unit else short(value)


def short(value: float) -> str:
    """A number as a tick shows it: 2500 as 2.5k, 0.00001 as 10⁻⁵.

    >>> [short(value) for value in (0, 0.25, 1500, 20_000, 3e6, 1e-5, 2e-5)]
    ['0', '0.25', '1.5k', '20k', '3M', '10⁻⁵', '2e-05']
    """
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * 0.9999:
            return f"{value / unit:.4g}{sign}"
    if 0 < abs(value) < 1e-3 and value > 0 and abs(math.log10(value) - round(math.log10(value))) < 1e-9:
        return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.4g}"


def exact(value: float) -> str:
    """A number that was given, as a tick shows it: whole ones with all their digits.

    >>> [exact(value) for value in (0, 0.003, 300, 12_345)]
    ['0', '0.003', '300', '12,345']
    """
    return f"{value:,.0f}" if value >= 1 and value == round(value) and value < 1e7 else short(value)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels as near as may be to the wanted ones, at least `gap` apart and between low and high where there is room.

    >>> spread([0.5, 0.5, 0.1], 0.1, 0.0, 1.0)
    [0.45, 0.55, 0.1]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[tuple[float, list[int]]] = []
    for index in order:
        groups.append((wanted[index], [index]))
        while len(groups) > 1:
            (below, lower), (above, upper) = groups[-2:]
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
