"""The seeds of one checkpoint as one network: means at each ε, with the standard error of the bits."""

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from nncomplexity.show.plots.results import LayerBits, Measurement, Network


def place(network: Network) -> Hashable:
    """A key that the seeds of one checkpoint share."""
    return network.run, network.method, network.step, network.checkpoint


def by_checkpoint(networks: Iterable[Network]) -> list[tuple[Network, ...]]:
    """The seeds of each checkpoint, in the order of the networks."""
    found: dict[Hashable, list[Network]] = {}
    for network in networks:
        found.setdefault(place(network), []).append(network)
    return [tuple(seeds) for seeds in found.values()]


def mean_over(seeds: Sequence[Network]) -> Network:
    """The seeds of one checkpoint as one network.

    Its points are means over the seeds that have them. A single seed does not change.
    """
    if len(seeds) == 1:
        return seeds[0]
    eps = sorted({point.eps for network in seeds for point in network.points}, reverse=True)
    found = [[point for network in seeds if (point := network.at(one))] for one in eps]
    # The summary of a curve is of one seed's points.
    return replace(seeds[-1], seed=None, curve=None, points=tuple(_mean(points) for points in found))


def standard_error(values: Sequence[float]) -> float:
    """The standard error of a mean; 0 for a single value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _mean(points: Sequence[Measurement]) -> Measurement:
    def mean(value: Callable[[Measurement], float | None]) -> float | None:
        known = [here for point in points if (here := value(point)) is not None]
        return statistics.fmean(known) if known else None

    bits = [point.bits for point in points]
    return replace(
        points[-1],
        bits=statistics.fmean(bits),
        bits_error=standard_error(bits),
        coarse_loss=mean(lambda point: point.coarse_loss),
        distortion=mean(lambda point: point.distortion),
        within=all(point.within for point in points),
        mdl_bits=mean(lambda point: point.mdl_bits),
        layers=_mean_layers([point.layers for point in points if point.layers]),
        shared_bits=mean(lambda point: point.shared_bits),
    )


def _mean_layers(several: Sequence[Sequence[LayerBits]]) -> tuple[LayerBits, ...]:
    """The layers of the last seed, with the means of their bits."""
    found: dict[str, list[float]] = {}
    for layers in several:
        for layer in layers:
            found.setdefault(layer.name, []).append(layer.bits)
    return tuple(replace(layer, bits=statistics.fmean(found[layer.name])) for layer in several[-1]) if several else ()
