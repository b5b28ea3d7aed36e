"""What a network is, and its loss, to the rest of the package.

- `weights`: named tensors, their ties, and the skeleton
- `layout`: a tensor in blocks, or folded to another matrix
- `relative`: a base that the decoder has: differences from it, and the way back
- `selection`: which tensors may change, by patterns on their names
- `naming`: names as wrappers write them, and as a network has them
- `modulestate`: a module's tensors, ready to be exchanged, whatever its hooks do
- `losses`: what a loss may return, and a loss made of examples, which may be taken over some of them
- `distortion`: the user's loss, counted, with nothing of the user's left changed
- `taskmodule`: `mytask:loss`: the user's functions, found and called
- `usercode`: exceptions of the user's functions in one line, with the file and the line
- `loading`: how weights get into a module so that its parts notice
- `target`: what a loss is called on: a copy of a module, or a dictionary of tensors
- `modes`: whether a network is in training mode where that counts
- `probes`: weights to try a loss on: slightly changed ones, or random ones
- `soundness`: whether a loss can be relied on, before a search and after it
- `constant`: the network with all weights zero: its loss and its risk
- `divergence`: distortions between functions, and how faithful a file is to its network
- `namedoutputs`: a divergence as a command line names it
- `calling`: what a function of the user's finds when it is called: random state, gradients, nothing kept of other weights
"""

from nncomplexity.network.calling import RandomState, fixed_random_state
from nncomplexity.network.constant import constant, constant_loss, constant_loss_of, constant_risk
from nncomplexity.network.distortion import (
    GRADIENT_COST,
    Distortion,
    LossFn,
    preserved_random_state,
    random_state,
    set_random_state,
)
from nncomplexity.network.divergence import Divergence, DivergenceFrom
from nncomplexity.network.divergence.faithfulness import Agreement, Faithfulness
from nncomplexity.network.divergence.inputs import Batch, most_frequent_error, read
from nncomplexity.network.layout import MOST_BLOCKS, Blocks, Folding, Layout, foldings, pieces_of
from nncomplexity.network.losses import Divisible, MeanLoss, loss_from, number_of
from nncomplexity.network.modulestate import LeftOut, left_as_it_was, left_out, numbers_left_out, tensors_of
from nncomplexity.network.namedoutputs import NamedDivergence, data_named, takes_arguments
from nncomplexity.network.naming import namings, unchanged
from nncomplexity.network.probes import Probe, random
from nncomplexity.network.relative import Base, added, base_of, in_dtype
from nncomplexity.network.selection import Patterns, kept_exactly, patterns_of
from nncomplexity.network.target import MappingTarget, ModuleTarget
from nncomplexity.network.taskmodule import (
    Function,
    Task,
    architecture_of,
    command_line_of,
    find_device,
    find_function,
    folder_of,
    result_of,
    risk_of,
    value_of,
)
from nncomplexity.network.weights import (
    DIMENSIONS,
    STORED,
    ModuleOrTensors,
    Skeleton,
    TensorSpec,
    check_in_memory,
    check_network,
    check_numbers,
    complex_view,
    is_finite,
    of_bytes,
    real_view,
    skeleton_of,
    stacked,
    storage_place,
    stored_bytes,
)

__all__ = [
    "DIMENSIONS",
    "GRADIENT_COST",
    "MOST_BLOCKS",
    "STORED",
    "Agreement",
    "Base",
    "Batch",
    "Blocks",
    "Distortion",
    "Divergence",
    "DivergenceFrom",
    "Divisible",
    "Faithfulness",
    "Folding",
    "Function",
    "Layout",
    "LeftOut",
    "LossFn",
    "MappingTarget",
    "MeanLoss",
    "ModuleOrTensors",
    "ModuleTarget",
    "NamedDivergence",
    "Patterns",
    "Probe",
    "RandomState",
    "Skeleton",
    "Task",
    "TensorSpec",
    "added",
    "architecture_of",
    "base_of",
    "check_in_memory",
    "check_network",
    "check_numbers",
    "command_line_of",
    "complex_view",
    "constant",
    "constant_loss",
    "constant_loss_of",
    "constant_risk",
    "data_named",
    "find_device",
    "find_function",
    "fixed_random_state",
    "folder_of",
    "foldings",
    "in_dtype",
    "is_finite",
    "kept_exactly",
    "left_as_it_was",
    "left_out",
    "loss_from",
    "most_frequent_error",
    "namings",
    "number_of",
    "numbers_left_out",
    "of_bytes",
    "patterns_of",
    "pieces_of",
    "preserved_random_state",
    "random",
    "random_state",
    "read",
    "real_view",
    "result_of",
    "risk_of",
    "set_random_state",
    "skeleton_of",
    "stacked",
    "storage_place",
    "stored_bytes",
    "takes_arguments",
    "tensors_of",
    "unchanged",
    "value_of",
]
