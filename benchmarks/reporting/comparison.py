"""The comparison with peers: tables of the recorded rows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Content
from benchmarks.reporting.markdown import table

RESULTS = ROOT / "benchmarks" / "results"
TITLES = {
    "tight": "`tight`",
    "bayes": "`bayes`",
    "quantize": "`quantize`",
    "int8_zstd": "int8 + zstd-19",
    "nncodec": "NNCodec",
    "nncodec_per_tensor": "NNCodec, a step per tensor",
}


def read(path: Path) -> Content:
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content


def recorded() -> list[Content]:
    """The comparison's records: the one of the shipped networks first."""
    return [read(path) for path in sorted(RESULTS.glob("tight_vs_peers*.json"), key=lambda path: (len(path.name), path.name))]


def points(content: Content) -> list[tuple[str, float]]:
    """The (case, ε) of a record, in the order measured."""
    return list(dict.fromkeys((row["case"], row["eps"]) for row in content["rows"]))


def rows_of(content: Content, case: str, eps: float, method: str, budget: int | None = None) -> list[Mapping[str, Any]]:
    """The rows of one point and method: one for each seed."""
    return [
        row for row in content["rows"] if (row["case"], row["eps"], row["method"], row.get("budget")) == (case, eps, method, budget)
    ]


def figure(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The median over seeds; None if a row has no such figure."""
    values = [row[name] for row in rows]
    return None if not values or None in values else median(values)


def sizes(contents: Sequence[Content]) -> str:
    """Bytes by case, ε and method."""
    header = ["network", "parameters", "ε", *TITLES.values(), "`tight` / `bayes`", "`tight` / NNCodec"]
    lines = []
    for content in contents:
        for case, eps in points(content):
            found = {method: figure(rows_of(content, case, eps, method), "bytes") for method in TITLES}
            cells = [_count(found[method]) for method in TITLES]
            quotients = [_share(found["tight"], found["bayes"]), _share(found["tight"], found["nncodec_per_tensor"])]
            lines.append([case, _count(content["cases"][case]["parameters"]), f"{eps:g}", *cells, *map(_ratio, quotients)])
    return table(header, lines)


def ratios(contents: Sequence[Content]) -> str:
    """Geometric mean and largest ratio of tight's bytes to those of the others. An empty payload counts as one byte."""
    lines = []
    for method in ("bayes", "nncodec_per_tensor", "nncodec", "quantize", "int8_zstd"):
        quotients = []
        for content in contents:
            for case, eps in points(content):
                tight, other = (figure(rows_of(content, case, eps, name), "bytes") for name in ("tight", method))
                if tight is not None and other:
                    quotients.append(max(tight, 1.0) / other)
        if quotients:
            cells = [TITLES[method], str(len(quotients)), f"{geometric_mean(quotients):.3f}", f"{max(quotients):.3f}"]
            lines.append(cells)
    return table(["`tight`'s bytes over those of", "points", "geometric mean", "largest"], lines)


def costs(contents: Sequence[Content]) -> str:
    """Loss evaluations, and processor time in units of one evaluation outside a search, by case, ε and method."""
    header = ["network", "ε", *(f"{title}" for title in TITLES.values()), "one plain evaluation"]
    lines = []
    for content in contents:
        for case, eps in points(content):
            cells = []
            for method in TITLES:
                rows = rows_of(content, case, eps, method)
                evaluations, cost = figure(rows, "evaluations"), figure(rows, "cost")
                cells.append("–" if cost is None else f"{_count(evaluations)} / {_count(cost)}")
            rows = [row for row in content["rows"] if (row["case"], row["eps"]) == (case, eps)]
            lines.append([case, f"{eps:g}", *cells, f"{1e3 * median(row['evaluation_cpu_seconds'] for row in rows):.2f} ms"])
    return table(header, lines)


def budgets(contents: Sequence[Content]) -> str:
    """Bytes of `tight` at several budgets, and cost in the same unit; empty if none were measured."""
    asked = sorted({row["budget"] for content in contents for row in content["rows"] if row.get("budget")})
    if not asked:
        return ""
    lines = []
    for content in contents:
        for case, eps in points(content):
            cells = []
            for budget in (*asked, None):
                rows = rows_of(content, case, eps, "tight", budget)
                cells.append(f"{_count(figure(rows, 'bytes'))} ({_count(figure(rows, 'cost'))})" if rows else "–")
            if set(cells[:-1]) != {"–"}:
                lines.append([case, f"{eps:g}", *cells])
    return table(["network", "ε", *(f"budget {budget}" for budget in asked), "default"], lines)


def setting(contents: Sequence[Content]) -> str:
    """One sentence on the machine and the versions of the figures."""
    sentences = []
    for content in contents:
        machine, cases = content["machine"], ", ".join(content["cases"])
        sentences.append(
            f"{cases}: {_processors(content)}, {machine['cores']} cores, {machine['threads']} thread(s), torch {machine['torch']}, "
            f"numpy {machine['numpy']}, nncomplexity {machine['nncomplexity']}."
            + "".join(f" {TITLES[method]} was left out: {reason}." for method, reason in content["skipped"].items())
        )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _processors(content: Content) -> str:
    """The processor; if there are several, each with the methods that it measured."""
    methods: dict[str, list[str]] = {}
    for row in content["rows"]:
        methods.setdefault(row.get("cpu", content["machine"]["cpu"]), []).append(TITLES[row["method"]])
    if len(methods) == 1:
        return next(iter(methods))
    return " and ".join(f"{cpu} ({', '.join(dict.fromkeys(titles))})" for cpu, titles in methods.items())


def _share(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
