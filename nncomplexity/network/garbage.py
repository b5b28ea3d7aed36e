"""How often Python looks for garbage in cycles during a search.

Python looks after every 700 new objects. An ordinary network makes that many tensors in some evaluations. A network with thousands of tensors
makes many times as many in each evaluation, and the collections would then take a fifth of the time of its search.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 5
"""New objects for each tensor between two collections: a few evaluations."""


@contextmanager
def collected_each_few_evaluations(tensors: int) -> Iterator[None]:
    """A context in which garbage is collected each few evaluations of a network with this number of tensors.

    It is never collected more often than before the context, and collections that are off stay off.
    """
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], _OBJECTS * tensors), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
