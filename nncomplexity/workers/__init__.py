"""Work that is spread over processes or machines, by any executor of `concurrent.futures`.

- `packing`: functions, networks and results as bytes for another process
- `parametrized`: modules with parametrizations, which PyTorch's own pickling refuses
- `surroundings`: the state of the calling process, which workers take on
- `local`: this process and new processes of this machine, as executors
- `crew`: tasks on an executor: dead workers lose nothing, and an executor that is gone is one clear line
- `cluster`: the executor of a Dask cluster
"""

from nncomplexity.workers.cluster import dask_executor
from nncomplexity.workers.crew import Crew, checked_executor, in_this_process, run, sent
from nncomplexity.workers.local import LocalPool, ThisProcess, start_method_kept
from nncomplexity.workers.packing import CannotPackError, packed, unpacked
from nncomplexity.workers.surroundings import Surroundings, module_folders

__all__ = [
    "CannotPackError",
    "Crew",
    "LocalPool",
    "Surroundings",
    "ThisProcess",
    "checked_executor",
    "dask_executor",
    "in_this_process",
    "module_folders",
    "packed",
    "run",
    "sent",
    "start_method_kept",
    "unpacked",
]
