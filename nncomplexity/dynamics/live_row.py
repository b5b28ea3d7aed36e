"""The row of a network in memory, without a checkpoint: one that trains in this process, or a copy of one."""

import contextlib
import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

import torch
from torch import Tensor, nn

from nncomplexity.dynamics.functions import check_sendable
from nncomplexity.dynamics.job import critical_keys, learning_coefficient, user_values, zero_risk
from nncomplexity.dynamics.results_file import line_of
from nncomplexity.dynamics.rows import UserValues, failed_row, l2_norm, measured_row
from nncomplexity.dynamics.settings import Row, TrackSettings
from nncomplexity.errors import InputError
from nncomplexity.measure import estimate
from nncomplexity.network import (
    Cache,
    Distortion,
    LossFn,
    MappingTarget,
    ModuleOrTensors,
    ModuleTarget,
    Snapshot,
    caches,
    check_network,
    left_as_it_was,
    preserved_random_state,
    tensors_of,
)
from nncomplexity.workers import CannotPackError, Surroundings, sent, unpacked

CopiedNetwork = tuple[Snapshot, Surroundings, bytes]
"""A copy of a network, the state of the process in which it was copied, and the result of `packed_settings`."""


def live_row(start: Row, network: ModuleOrTensors, settings: TrackSettings) -> Row:
    """The row of a network, or a failed row if it can't be measured. The network and the random state do not change.

    Args:
        start: the first keys of the row, with the seed of the search.
        network: a module or tensors by name.
        settings: how it is measured.

    Returns:
        The row, which can be written as JSON.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    try:
        # `preserved_random_state` comes first, because it has the lock. Standard output belongs to the whole process, too.
        with preserved_random_state(), contextlib.redirect_stdout(sys.stderr):
            row = _measured(start, network, settings)
        line_of(row)  # a row that can't be written as JSON counts as failed
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # no error in a row may end the training
        return failed_row(start, error)
    return row


def packed_settings(settings: TrackSettings, executor: Executor | None) -> bytes:
    """The settings as bytes. They are packed once for all rows, because they may contain the user's data.

    Args:
        settings: how the rows are measured.
        executor: its processes measure; None stands for a new process.

    Returns:
        Bytes for `packed_network`.

    Raises:
        InputError: the settings can't be sent to another process.
    """
    check_sendable(settings.functions, executor)
    try:
        return sent(settings, executor)
    except CannotPackError as error:  # the search method may be the user's own class
        raise InputError(f"background: expected settings that can be pickled, because another process measures ({error})") from None


def packed_network(snapshot: Snapshot, settings: bytes, executor: Executor | None) -> bytes:
    """A network for another process, as bytes. Sent as tensors, it would take shared memory, which is often small in containers.

    Raises:
        InputError: the network can't be sent to another process.
    """
    try:
        return sent((snapshot, Surroundings.here(), settings), executor)
    except CannotPackError as error:
        raise InputError(f"model: expected a network that can be pickled, because another process measures it ({error})") from None


def row_of_copy(start: Row, copied: CopiedNetwork) -> Row:
    """The `live_row` of a network from `packed_network`. Other processes run this function."""
    snapshot, surroundings, packed = copied
    settings = _unpacked(packed)
    with surroundings.around():
        surroundings.set_start_method()
        return live_row(start, snapshot.on(torch.device(settings.device)), settings)


@functools.lru_cache(1)
def _unpacked(settings: bytes) -> TrackSettings:
    """The settings. They are unpacked once and not for each row, because they may contain the user's data."""
    found: TrackSettings = unpacked(settings)
    return found


def _measured(start: Row, model: ModuleOrTensors, settings: TrackSettings) -> Row:
    check_network(model)
    loss_fn, seed = settings.loss_fn.get(), start["seed"]
    # Without other functions only `estimate` uses the module, and it doesn't change it.
    if isinstance(model, nn.Module) and not (settings.risk_fn or settings.metrics):
        keeping: contextlib.AbstractContextManager[Mapping[str, Tensor]] = contextlib.nullcontext(tensors_of(model))
    else:  # a user's function may load the weights into the network that trains
        keeping = left_as_it_was(model)
    with keeping as tensors:
        network = model if isinstance(model, nn.Module) else tensors
        norm = l2_norm(tensors)
        stale = _stale(network, loss_fn)
        (original,) = _values(settings, network, stale, [tensors])
        llc = learning_coefficient(settings, loss_fn, network, seed)
        reports = estimate(network, loss_fn, settings.eps, **settings.options(seed))
        coarse = _values(settings, network, stale, [report.coarse_weights() for report in reports])
        with _lent(network, stale) as lent:
            nothing = zero_risk(settings, lent, tensors)
        critical = critical_keys(settings, loss_fn, network, reports)
        return measured_row(start, settings, norm, reports, original, coarse, llc, nothing) | critical


def _values(
    settings: TrackSettings, model: ModuleOrTensors, stale: Collection[Cache], several: Sequence[Mapping[str, Tensor]]
) -> list[UserValues]:
    """Risk and metrics of the network with each of these weights."""
    if settings.risk_fn is None and not settings.metrics:
        return [UserValues() for _ in several]
    with _lent(model, stale) as network:
        return [user_values(settings, partial(network, weights)) for weights in several]


def _stale(model: ModuleOrTensors, loss_fn: LossFn) -> Collection[Cache]:
    """The attributes of a module with values that belong to the weights it had, which the loss tells."""
    if not isinstance(model, nn.Module) or not caches(model):
        return ()
    with Distortion(model, loss_fn, eps=0.0) as distortion:
        return distortion.emptied


@contextlib.contextmanager
def _lent(model: ModuleOrTensors, stale: Collection[Cache]) -> Iterator[Callable[[Mapping[str, Tensor]], ModuleOrTensors]]:
    """Use the network with other weights. It is a fresh copy, or the network itself if it can't be copied.

    The network's own weights are restored at the end. The stale attributes are emptied each time.

    Yields:
        A function that returns the network with the weights that it is given.
    """
    target = ModuleTarget(model) if isinstance(model, nn.Module) else MappingTarget(model)
    if stale:
        target.empty(stale)

    def network(weights: Mapping[str, Tensor]) -> ModuleOrTensors:
        target.renew()
        return target.load(weights)

    try:
        yield network
    finally:
        target.restore()
