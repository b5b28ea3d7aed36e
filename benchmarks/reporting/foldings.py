"""The table of networks whose tensors were presented to `tight` in other ways."""

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import geometric_mean, mean, stdev

from benchmarks.cases.record import Content, Row
from benchmarks.reporting.markdown import table


def foldings(content: Content) -> str:
    """For each kind of network and presentation: bits relative to those of the unchanged tensors, geometric means over networks and seeds."""
    every_eps, rows = content["settings"]["eps"], content["rows"]
    kinds = dict.fromkeys(row["case"].partition("/")[0] for row in rows)
    lines = []
    for kind in kinds:
        of_kind = [row for row in rows if row["case"].startswith(f"{kind}/")]
        methods = dict.fromkeys(row["method"] for row in of_kind)
        first, *others = sorted(methods, key=lambda method: not method.startswith("as it is"))
        base = [row for row in of_kind if row["method"] == first]
        share = mean(row["bits_of_presented"] / row["bits"] for row in base)
        for method in others:
            found = [row for row in of_kind if row["method"] == method]
            cells = [_ratio(base, found, "bits", eps) for eps in every_eps]
            cells += [f"{_ratio(base, found, 'bits')} ± {_error(base, found):.2f}", _ratio(base, found, "bits_of_presented")]
            sizes = [f"{geometric_mean(row['bits'] / 8 for row in base if row['eps'] == eps):,.0f}" for eps in every_eps]
            lines.append([kind, method, f"{content['cases'][base[0]['case']]['parameters']:,}", *sizes, f"{share:.0%}", *cells])
    header = ["network", "presented", "parameters", *(f"bytes as it is, ε = {eps:g}" for eps in every_eps), "of these, presented"]
    header += [*(f"ratio, ε = {eps:g}" for eps in every_eps), "ratio, all", "of the presented alone"]
    return table(header, lines)


def _logs(base: Sequence[Row], found: Sequence[Row], name: str, eps: float | None = None) -> dict[str, list[float]]:
    """For each network, the logarithms of the ratios at each ε, or at this one, and for each seed."""
    before = {(row["case"], row["eps"], row["seed"]): row[name] for row in base}
    ratios: dict[str, list[float]] = {}
    for row in found:
        if eps in (None, row["eps"]):
            quotient = max(row[name], 1) / max(before[row["case"], row["eps"], row["seed"]], 1)
            ratios.setdefault(row["case"], []).append(log(quotient))
    return ratios


def _ratio(base: Sequence[Row], found: Sequence[Row], name: str, eps: float | None = None) -> str:
    return f"{exp(mean(map(mean, _logs(base, found, name, eps).values()))):.2f}"


def _error(base: Sequence[Row], found: Sequence[Row]) -> float:
    means = [mean(logs) for logs in _logs(base, found, "bits").values()]
    return stdev(means) / sqrt(len(means)) if len(means) > 1 else 0.0
