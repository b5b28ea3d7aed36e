"""The measurements on MNIST and the published figures: the table and the picture at the top of docs/benchmarks.md, and the tables of
docs/benchmarks/mnist.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from benchmarks.cases.published import BOUNDS, SIZES
from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table

TITLES = {"mnist/lenet300": "LeNet-300-100", "mnist/lenet5": "LeNet-5-Caffe", "mnist/small": "convnet of 5,994 parameters"}
STYLES = {
    ("tight", "loss"): ("#D55E00", "o"),
    ("tight", "kl"): ("#0072B2", "s"),
    ("nncodec", "loss"): ("#009E73", "^"),
    ("nncodec", "kl"): ("#CC79A7", "v"),
}
LABELS = {
    ("tight", "loss"): "tight, loss",
    ("tight", "kl"): "tight, outputs (KL)",
    ("nncodec", "loss"): "NNCodec, loss",
    ("nncodec", "kl"): "NNCodec, outputs (KL)",
}
PUBLISHED = "#555555"


@dataclass(frozen=True)
class Point:
    """Bytes and test error of one network at one ε with one effort: means over seeds."""

    case: str
    method: str
    distortion: str
    eps: float
    examples: int | None
    budget: float | None
    rows: tuple[Row, ...]

    @property
    def bytes(self) -> float:
        return mean(row["bytes"] for row in self.rows)

    @property
    def test_error(self) -> float:
        return mean(row["test_error"] for row in self.rows)

    @property
    def effort(self) -> str:
        """The evaluations of the search: its budget, "default", or for other methods those that it took."""
        if self.budget is None and self.method == "tight":
            return "default"
        return f"{mean(row['evaluations'] for row in self.rows) if self.budget is None else self.budget:,.0f}"

    def as_text(self) -> str:
        """Bytes at a test error, with standard deviations if there are several seeds."""
        sizes, errors = ([row[name] for row in self.rows] for name in ("bytes", "test_error"))
        several = len(self.rows) > 1
        size = f"{mean(sizes):,.0f}" + (f" ± {stdev(sizes):,.0f}" if several else "")
        return f"{size} at {mean(errors):.2%}" + (f" ± {100 * stdev(errors):.2f}" if several else "")


def points(content: Content) -> list[Point]:
    """The points of a record, the largest ε first."""
    found: dict[tuple[str, str, str, float, int | None, float | None], list[Row]] = {}
    for row in content["rows"]:
        if row["bytes"] is not None:
            key = (row["case"], row["method"], row["distortion"], row["eps"], row["examples"], row.get("budget"))
            found.setdefault(key, []).append(row)
    return [Point(*key, tuple(rows)) for key, rows in sorted(found.items(), key=lambda entry: -entry[0][3])]


def front(sizes: Content, bounds: Content | None) -> str:
    """For each published figure, our smallest point whose test error is not larger; if there is none, our point with the least test error."""
    ours = [point for point in points(sizes) if point.method == "tight"]
    lines = []
    for known in sorted(SIZES, key=lambda size: (size.case, size.test_error)):
        measured = [point for point in ours if point.case == known.case]
        fitting = [point for point in measured if point.test_error <= known.test_error]
        nearest = min(measured, key=lambda point: point.test_error, default=None)
        best = min(fitting, key=lambda point: point.bytes, default=nearest)
        text = "not measured" if best is None else f"{'' if fitting else 'not reached: '}{best.as_text()} ({_seeds(best.rows)})"
        what = f"{TITLES[known.case]}, bytes at a test error of at most {known.test_error:.2%}"
        lines.append([what, text, f"{known.bytes:,}", f"{known.method}; {known.source}"])
    if bounds is not None:
        best_case = min({row["case"] for row in bounds["rows"]}, key=lambda case: _bound(bounds, case))
        count = _seeds(_smallest(bounds, best_case))
        our_text = f"{_bound(bounds, best_case):.1%}, {TITLES[best_case]} ({count})"
        known_bound = min(BOUNDS, key=lambda one: one.value)
        lines.append(
            ["MNIST, bound on the test error, no data-dependent prior", our_text, f"{known_bound.value:.1%}", known_bound.source]
        )
    return table(["benchmark", "`tight`", "published", "by"], lines)


def all_points(content: Content) -> str:
    """Every measured point: sizes, errors, bound, and the cost of the search."""
    lines = []
    for point in sorted(points(content), key=lambda point: point.case):
        first = point.rows[0]
        seconds = f"{mean(row['cpu_seconds'] for row in point.rows):,.0f} s" if "cpu_seconds" in first else "–"
        bound = f"{mean(row['bound'] for row in point.rows):.1%}" if "bound" in first else "–"
        lines.append(
            [
                TITLES[point.case],
                LABELS.get((point.method, point.distortion), point.method),
                f"{point.eps:g}",
                _examples(first),
                point.effort,
                str(len(point.rows)),
                point.as_text(),
                f"{mean(row['train_error'] for row in point.rows):.2%}",
                bound,
                seconds,
            ]
        )
    header = [
        "network",
        "method and distortion",
        "ε",
        "images of the search",
        "evaluations",
        "seeds",
        "bytes at test error",
        "training error",
    ]
    return table([*header, "bound", "processor time"], lines)


def all_bounds(content: Content) -> str:
    """The smallest bound of each network, with its errors and the holdout bound."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in content["rows"]):
        rows = _smallest(content, case)
        figures = [mean(row[name] for row in rows) for name in ("train_error", "test_error", "holdout_bound")]
        text = f"{_bound(content, case):.1%}" + (f" ± {100 * stdev(row['bound'] for row in rows):.1f}" if len(rows) > 1 else "")
        size = f"{mean(row['bytes'] for row in rows):,.0f}"
        lines.append([TITLES[case], _examples(rows[0]), str(len(rows)), text, size, *(f"{value:.2%}" for value in figures)])
    lines += [[one.source, "", "", f"{one.value:.1%}", "", "", "", ""] for one in BOUNDS]
    header = [
        "network",
        "images of the search",
        "seeds",
        "bound",
        "bytes",
        "training error",
        "test error",
        "holdout bound of the original",
    ]
    return table(header, lines)


def _smallest(content: Content, case: str) -> list[Row]:
    """A network's row with the smallest bound, for each seed. The bound holds for the files of all ε and budgets at once."""
    rows = [row for row in content["rows"] if row["case"] == case]
    return [
        min((row for row in rows if row["seed"] == seed), key=lambda row: row["bound"])
        for seed in dict.fromkeys(row["seed"] for row in rows)
    ]


def _bound(content: Content, case: str) -> float:
    return mean(row["bound"] for row in _smallest(content, case))


def _seeds(rows: Sequence[Row]) -> str:
    return f"{len(rows)} seeds" if len(rows) > 1 else "one seed"


def _examples(row: Row) -> str:
    return f"{row['examples']:,}" if row["examples"] else "all"


def draw(content: Content, path: Path, *, made_by: str) -> None:
    """Write the picture, bytes against test error with the published points. It doesn't depend on the time or the machine."""
    cases = list(dict.fromkeys(size.case for size in SIZES))
    with plt.rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        drawing, axes = plt.subplots(1, len(cases), figsize=(4.4 * len(cases) + 0.6, 5.2), squeeze=False, layout="constrained")
        for axis, case in zip(axes[0], cases, strict=True):
            for key, (colour, mark) in STYLES.items():
                ours = [point for point in points(content) if (point.method, point.distortion) == key and point.case == case]
                for limited in sorted({point.budget is not None for point in ours}):
                    these = [point for point in ours if (point.budget is not None) == limited]
                    x, y = [point.test_error for point in these], [point.bytes for point in these]
                    # Points with different budgets or images are no curve.
                    style = {"markerfacecolor": "none", "linestyle": ""} if limited else {"linewidth": 0.8}
                    label = LABELS[key] + (", with a budget" if limited else "")
                    axis.plot(x, y, c=colour, marker=mark, label=label, zorder=3, **style)
            for method, mark in zip(dict.fromkeys(size.method for size in SIZES), ("D", "P", "X"), strict=True):
                known = [size for size in SIZES if size.case == case and size.method == method]
                if known:
                    axis.scatter(
                        *zip(*((size.test_error, size.bytes) for size in known), strict=True),
                        c=PUBLISHED,
                        marker=mark,
                        label=method,
                    )
            if case in content["cases"]:
                error = content["cases"][case]["test_error"]
                axis.axvline(error, c=PUBLISHED, linewidth=0.8, linestyle=":", label="the original network")
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            axis.set_ylim(low / 2, 2 * high)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=2))
            axis.set_title(TITLES[case], fontsize=9)
            axis.set_xlabel("test error")
            axis.set_ylabel("bytes")
            axis.grid(axis="both", which="both", linewidth=0.4, alpha=0.5)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"measured by {made_by}"})
        plt.close(drawing)
