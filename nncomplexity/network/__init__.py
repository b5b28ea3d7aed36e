"""Networks and their losses, as the rest of the package sees them.

- `weights`: named tensors, their ties, and the skeleton
- `layout`: a tensor divided into blocks, or folded to another matrix
- `relative`: the base that the decoder has: differences from it, and weights from differences
- `selection`: which tensors may change, by patterns on their names
- `naming`: names with and without the prefixes that wrappers write
- `modulestate`: a module's tensors, and how to replace their values
- `losses`: what a loss may return, and losses over examples, which can be computed on a part of the examples
- `moments`: second moments of the inputs of linear maps, recorded while a loss runs
- `distortion`: counts calls of the user's loss, and restores all of the user's state
- `devices`: the devices of this machine
- `taskmodule`: finds and calls the user's functions, such as `mytask:loss`
- `usercode`: exceptions of the user's functions in one line, with the file and the line
- `loading`: ways to put weights into a module so that its parts use them
- `attributes`: what the parts of a module hold besides the state dict, and how to restore it
- `caches`: attributes that may hold values computed from weights, and how to empty them
- `target`: the argument of a loss: a copy of a module, or a dictionary of tensors
- `snapshot`: a copy of a network, for another process
- `modes`: which parts of a network behave differently in training mode
- `probes`: slightly changed or random weights, to test a loss with
- `soundness`: whether a loss can be relied on, before a search and after it
- `constant`: the loss and the risk of the network with all weights zero
- `divergence`: distortions between functions, and how faithful a file is to its network
- `namedoutputs`: a divergence from the names on a command line
- `garbage`: how often Python looks for garbage in cycles
- `threads`: one thread for a loss that takes some milliseconds
- `calling`: the state in which the user's functions are called: random state, gradients, empty caches
"""

from nncomplexity.network.caches import Cache, caches
from nncomplexity.network.calling import RandomState, fixed_random_state
from nncomplexity.network.constant import constant, constant_loss, constant_loss_of, constant_risk
from nncomplexity.network.devices import devices_here
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
from nncomplexity.network.divergence.inputs import (
    NO_LABEL,
    USUAL_MASK,
    Batch,
    check_labels,
    counting,
    guess_error,
    most_frequent_error,
    read,
)
from nncomplexity.network.divergence.kinds import look_like_probabilities
from nncomplexity.network.layout import MOST_BLOCKS, Blocks, Folding, Layout, foldings, pieces_of
from nncomplexity.network.losses import Divisible, MeanLoss, loss_from, number_of
from nncomplexity.network.modes import evaluating
from nncomplexity.network.modulestate import LeftOut, left_as_it_was, left_out, numbers_left_out, tensors_of, with_numbers
from nncomplexity.network.moments import Moment
from nncomplexity.network.namedoutputs import NamedDivergence, data_named, takes_arguments
from nncomplexity.network.naming import namings, unchanged
from nncomplexity.network.probes import Probe, random
from nncomplexity.network.relative import Base, added, base_of, in_dtype
from nncomplexity.network.selection import Patterns, kept_exactly, patterns_of
from nncomplexity.network.snapshot import Snapshot, unwrapped
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
from nncomplexity.network.threads import Threads
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
    is_running_statistic,
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
    "NO_LABEL",
    "STORED",
    "USUAL_MASK",
    "Agreement",
    "Base",
    "Batch",
    "Blocks",
    "Cache",
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
    "Moment",
    "NamedDivergence",
    "Patterns",
    "Probe",
    "RandomState",
    "Skeleton",
    "Snapshot",
    "Task",
    "TensorSpec",
    "Threads",
    "added",
    "architecture_of",
    "base_of",
    "caches",
    "check_in_memory",
    "check_labels",
    "check_network",
    "check_numbers",
    "command_line_of",
    "complex_view",
    "constant",
    "constant_loss",
    "constant_loss_of",
    "constant_risk",
    "counting",
    "data_named",
    "devices_here",
    "evaluating",
    "find_device",
    "find_function",
    "fixed_random_state",
    "folder_of",
    "foldings",
    "guess_error",
    "in_dtype",
    "is_finite",
    "is_running_statistic",
    "kept_exactly",
    "left_as_it_was",
    "left_out",
    "look_like_probabilities",
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
    "unwrapped",
    "value_of",
    "with_numbers",
]
