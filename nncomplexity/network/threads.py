"""One thread for a small loss.

An operation of a fraction of a millisecond gains little from several threads. If another program uses the same cores, each such operation waits
until all of its threads have had a core, and a measurement takes many times as long. So the work of one evaluation is counted, and if it
takes some milliseconds at most, everything is computed with one thread. A rule by time would let the results depend on what else the machine
does.

PyTorch has a number of threads for each thread of the program, and MKL one number for all of them. So the number changes only within the main
thread.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nncomplexity.errors import InputError
from nncomplexity.linalg import large_network

SMALL_WORK = 10**8
"""The largest number of multiplications and additions in pairs of a small loss: about five milliseconds of one core."""
_PER_ELEMENT = 10
"""An element that other operations read or write counts as so many pairs: an addition waits for the memory, a product of matrices doesn't."""


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager that counts the work of PyTorch's operations.

    Attributes:
        pairs: multiplications and additions in pairs, and what other operations count as.
        on_cpu: whether all results were on the CPU.

    >>> with Work() as work:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> work.pairs  # two matrices of ones with 6 and 12 elements, and 24 pairs
    204
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pairs, self.on_cpu = 0, True

    @property
    def is_small(self) -> bool:
        """Whether one thread is enough."""
        return self.on_cpu and self.pairs <= SMALL_WORK

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if not self.is_small or func.is_view:
            return found
        results = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
        self.on_cpu = all(one.device.type == "cpu" for one in results)
        if (operations := flop_registry.get(func.overloadpacket)) is not None:
            self.pairs += operations(*args, **kwargs, out_val=found) // 2
        else:
            self.pairs += _PER_ELEMENT * max((one.numel() for one in [*results, *_tensors(args)]), default=0)
        return found


@contextmanager
def few_threads(evaluate: Callable[[], object], parameters: int, devices: Sequence[torch.device]) -> Iterator[None]:
    """A context with one thread if the work of an evaluation is small, and otherwise with the program's number of threads.

    Args:
        evaluate: evaluates the loss. It is called once, unless the answer is known without it.
        parameters: the number of the network's parameters. The loss of a large network is never small.
        devices: the devices of the network.
    """
    threads = torch.get_num_threads()
    here = threading.current_thread() is threading.main_thread() and all(device.type == "cpu" for device in devices)
    if threads == 1 or not here or large_network(parameters) or not _is_small(evaluate):
        yield
        return
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def _is_small(evaluate: Callable[[], object]) -> bool:
    """Whether the work of an evaluation is small. It isn't if the evaluation fails: the next one says why."""
    work = Work()
    try:
        with work:
            evaluate()
    except InputError:
        return False
    return work.is_small


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]
