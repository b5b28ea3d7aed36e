"""The course of one search, for the picture of docs/search.md: what each step and each candidate of its cycles came to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from matplotlib import rc_context
from matplotlib.figure import Figure

from nncomplexity import estimate
from nncomplexity.network import LossFn, ModuleOrTensors
from nncomplexity.search import Tight, tight
from nncomplexity.search.blocks import Block
from nncomplexity.search.descent import Cycle, Ended
from nncomplexity.search.latent import candidate_of

_EVERY = 8
"""Steps between two that the trace keeps."""
_LINE, _CANDIDATE, _MUTED = "#0072B2", "#D55E00", "#555555"


@dataclass
class Trace:
    """What happened in the cycles of a search.

    Attributes:
        eps: ε.
        steps: the number of steps so far.
        bits: a step, and the bits of a file of the latents after it, counted by the coder.
        distortions: a step, and the distortion on the last batches after it, in ε.
        candidates: the step after which each was measured, and its distortion on all examples, in ε.
        best: the step after which each measurement was made, and the bits of the best file then.
        cycles: the step at which each cycle ended.
        starts: the steps at which cycles began from another start than before.
    """

    eps: float
    steps: int = 0
    bits: list[tuple[int, float]] = field(default_factory=list)
    distortions: list[tuple[int, float]] = field(default_factory=list)
    candidates: list[tuple[int, float]] = field(default_factory=list)
    best: list[tuple[int, float]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


def trace_of(network: ModuleOrTensors, loss: LossFn, eps: float, method: Tight | None = None) -> Trace:
    """The trace of a search with seed 0, by default the default search."""
    trace = Trace(eps)
    original, tried = tight.Search._cycle, list[tight.Start]()

    def cycle(search: tight.Search, start: tight.Start, steps: int) -> bool:
        if not tried or start is not tried[-1]:
            tried.append(start)
            trace.starts.append(trace.steps)
        return original(search, start, steps)

    class Traced(Cycle):
        def run(self, integral: float = 0.0) -> Ended:
            ended = super().run(integral)
            trace.cycles.append(trace.steps)
            return ended

        def _step(self, blocks: Sequence[Block], step: int) -> None:
            super()._step(blocks, step)
            trace.steps += 1
            if trace.steps % _EVERY == 0:
                whole = self._trials.whole(self._fixed | candidate_of(self._latents))
                trace.bits.append((trace.steps, round(self._trials.bits(whole))))
                trace.distortions.append((trace.steps, round((self._mean or 0.0) / eps, 4)))

        def _measure(self, bias: float = 0.0) -> float:
            distortion = super()._measure(bias)
            trace.candidates.append((trace.steps, round(distortion / eps, 4)))
            if math.isfinite(best := self._trials.best):
                trace.best.append((trace.steps, round(best)))
            return distortion

    with patch.object(tight, "Cycle", Traced), patch.object(tight.Search, "_cycle", cycle):
        estimate(network, loss, eps, method=method or Tight(), seed=0)
    return trace


def draw(trace: Mapping[str, Any], about: str, path: Path) -> None:
    """Write the picture of a trace."""
    with rc_context({"svg.hashsalt": "nncomplexity", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(*zip(*trace["bits"], strict=True), color=_LINE, linewidth=0.9, label="bits of the latents as a file")
        above.step(*zip(*trace["best"], strict=True), where="post", color=_CANDIDATE, label="bits of the best file")
        below.plot(*zip(*trace["distortions"], strict=True), color=_LINE, linewidth=0.9, label="distortion of batches")
        within = [one for one in trace["candidates"] if one[1] <= 1]
        beyond = [one for one in trace["candidates"] if one[1] > 1]
        for some, face, label in ((within, _CANDIDATE, "candidate within ε"), (beyond, "none", "candidate beyond ε")):
            if some:
                below.scatter(
                    *zip(*some, strict=True), s=9, facecolors=face, edgecolors=_CANDIDATE, linewidths=0.7, label=label, zorder=3
                )
        below.axhline(1, color=_MUTED, linewidth=0.8)
        for axis in (above, below):
            axis.set_yscale("log")
            axis.spines[["top", "right"]].set_visible(False)
            for end in trace["cycles"]:
                axis.axvline(end, color=_MUTED, linestyle="--", linewidth=0.5)
            for begin in trace["starts"][1:]:
                axis.axvline(begin, color="black", linewidth=1.2)
            axis.legend(loc="upper right", frameon=False, ncols=3, fontsize=8)
        above.set_ylabel("bits")
        below.set(ylabel="distortion / ε", xlabel="steps of all cycles", ylim=(0.05, 30))
        figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": about})
