"""One thread for a small loss.

An operation of a fraction of a millisecond gains little from several threads. If another program uses the same cores, each such operation waits
until all of its threads have had a core, and a measurement takes many times as long. So the work of one evaluation is counted, and if it
takes some milliseconds at most, everything is computed with one thread. A rule by time would let the results depend on what else the machine
does.

PyTorch has a number of threads for each thread of the program, and MKL one number for all of them. So the number changes only within the main
thread.
"""

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nncomplexity.errors import InputError
from nncomplexity.linalg import large_network

T = TypeVar("T")

SMALL_WORK = 10**8
"""The largest work of a small loss, in pairs of a multiplication and an addition: about five milliseconds of one core."""
_PER_ELEMENT = 10
"""The pairs that an element counts as, if another operation reads or writes it. An addition waits for the memory, and a product of matrices
doesn't."""
_PRODUCTS = re.compile("mm|linear|conv|rnn|lstm|gru|attention|transformer")
"""Parts of the names of operations that multiply matrices. PyTorch's table lacks fused ones, such as a whole layer of a transformer."""


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager that counts the work of PyTorch's operations, until it isn't small any more.

    Args:
        exceeded: it is called once, when the work isn't small any more.

    Attributes:
        pairs: the work so far, in pairs of a multiplication and an addition. Other operations count as some pairs for each element.
        is_small: whether one thread is enough. It isn't for results that are not on the CPU.
        exact: whether the results are those of the same operations without this context, bit for bit. PyTorch takes another algorithm for
            some decompositions of matrices.

    >>> with Work() as work:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> work.pairs  # two matrices of ones with 6 and 12 elements, and 24 pairs
    204
    """

    def __init__(self, exceeded: Callable[[], object] = lambda: None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pairs, self.is_small, self.exact, self._exceeded = 0, True, True, exceeded

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if not self.is_small or func.is_view:
            return found
        results = _tensors(found)
        self.exact &= "linalg" not in func.name()
        if (operations := flop_registry.get(func.overloadpacket)) is not None:
            self.pairs += operations(*args, **kwargs, out_val=found) // 2
        else:
            self.pairs += _of_elements(func.name(), [*results, *_tensors([args, kwargs])])
        self.is_small = self.pairs <= SMALL_WORK and all(one.device.type == "cpu" for one in results)
        if not self.is_small:
            self._exceeded()
        return found


class Threads:
    """A context with one thread if the work of an evaluation is small, and otherwise with the program's number of threads.

    It begins with one thread, and the first evaluation decides. So a small loss is not called once more for this.

    Args:
        parameters: the number of the network's parameters. The loss of a large network is never small.
        devices: the devices of the network.
    """

    def __init__(self, parameters: int, devices: Sequence[torch.device]) -> None:
        self._possible = not large_network(parameters) and all(device.type == "cpu" for device in devices)
        self._number = 1

    def __enter__(self) -> "Threads":
        self._number = torch.get_num_threads()
        self._possible &= self._number > 1 and threading.current_thread() is threading.main_thread()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def decide(self, evaluate: Callable[[], T], again: Callable[[], object] = lambda: None) -> T:
        """The result of an evaluation, which decides on the number of threads unless that is decided.

        Args:
            evaluate: the evaluation. It is called again with all threads if its work isn't small, or if it fails. It is also called again
                if counting may have changed the result.
            again: it is called before that.
        """
        if self._possible:
            self._possible = small = False
            with suppress(InputError):  # the second call says why, or succeeds because nothing is counted
                torch.set_num_threads(1)
                with Work(self._restore) as work:
                    found = evaluate()
                small = work.is_small
                if small and work.exact:
                    return found
            if not small:
                self._restore()
            again()
        return evaluate()

    def _restore(self) -> None:
        if torch.get_num_threads() != self._number:
            torch.set_num_threads(self._number)


def _of_elements(name: str, tensors: Sequence[Tensor]) -> int:
    """The work of an operation that isn't in PyTorch's table, from the sizes of its tensors. For products it is an upper estimate."""
    elements = max((one.numel() for one in tensors), default=0)
    extent = max((extent for one in tensors for extent in one.shape), default=0)
    return max(_PER_ELEMENT, 4 * extent if _PRODUCTS.search(name) else 0) * elements


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]
