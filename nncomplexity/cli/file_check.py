"""The common part of `verify` and `certify`: decode a `.coarse` file, and measure it again with the task's functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

import nncomplexity
from nncomplexity.cli.basefile import base_file, read_on
from nncomplexity.cli.groups import DistortionGroup
from nncomplexity.cli.options import (
    BaseKey,
    BasePath,
    BoundOptions,
    Chance,
    Classes,
    Device,
    Examples,
    Key,
    LeftOutIsArchitecture,
    Limit,
    Model,
    RiskFn,
)
from nncomplexity.cli.outputs import check_writable, stdout_for_results
from nncomplexity.cli.subject import load_network, task_of

if TYPE_CHECKING:
    from nncomplexity.bounds import Bound
    from nncomplexity.checkpoint import Checkpoint
    from nncomplexity.file import CoarseFile
    from nncomplexity.measure import Reported, Typed, Verification
    from nncomplexity.network import Divergence, NamedDivergence, Task
    from nncomplexity.words import Eps

DEFAULT_DELTA = 0.05


@dataclass(frozen=True)
class CheckGroup(DistortionGroup):
    """The options for a check of a file: the task's functions, the base, the data, and the settings of the bound."""

    model: Model = None
    base: BasePath = None
    base_key: BaseKey = None
    key: Key = None
    device: Device = "cpu"
    risk_fn: RiskFn = None
    n: Examples = None
    # None if the user didn't give it. Then `verify` doesn't compare it with a report.
    delta: Annotated[
        float | None, typer.Option(metavar="PROBABILITY", help=f"The probability that the bound fails. Default: {DEFAULT_DELTA}.")
    ] = None
    chance: Chance = None
    classes: Classes = None
    left_out_is_architecture: LeftOutIsArchitecture = False
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="FILE", help="A data file that the functions read, identified by its hash. Can be repeated."
        ),
    ] = None
    limit: Limit = None

    def bound_options(self) -> BoundOptions:
        """The settings of the bound. Raises InputError if they give none."""
        delta = DEFAULT_DELTA if self.delta is None else self.delta
        return BoundOptions.checked(self.risk_fn, self.n, delta, self.chance, self.classes)


@dataclass(frozen=True)
class FileCheck:
    """A decoded file with everything that is needed to check it.

    Attributes:
        options: the options of the command line.
        coarse: the file, with its base.
        task: the user's functions.
        original: the original network, if its checkpoint is given.
        named: the divergence, if outputs are named.
        bound: the settings of the bound.
    """

    options: CheckGroup
    coarse: CoarseFile
    task: Task
    original: Checkpoint | None
    named: NamedDivergence | None
    bound: BoundOptions

    @classmethod
    def load(
        cls, file: str, options: CheckGroup, against: str | None, *, inputs: Sequence[str | None], out: str | None
    ) -> FileCheck:
        """Read the file, find the functions and load the original.

        Args:
            file: the `.coarse` file.
            options: the options of the command line.
            against: the original's checkpoint.
            inputs: further files that the command reads, which `out` must not overwrite.
            out: the file that the command will write.

        Returns:
            The file and everything that is needed to check it.

        Raises:
            InputError: a file or function is not found, can't be used, or would be overwritten.
        """
        named, bound = options.named(), options.bound_options()
        check_writable([out], inputs=[file, options.base, against, *inputs, *(options.data or ())])
        coarse = read_on(file, base_file(options.base, options.base_key, "--base"), limit=options.limit, outputs=[out])
        with stdout_for_results():
            task = task_of(options.loss_fn, options.model, options.risk_fn, options.device, [out], named)
            original = None if against is None else load_network(against, options.key, task, outputs=[out])
        return cls(options, coarse, task, original, named, bound)

    def run(
        self, eps: Eps | None, reported: Reported | None = None, typed: Typed | None = None
    ) -> tuple[Verification, Bound | None]:
        """Measure the file again, and check each claim about it.

        Args:
            eps: the ε of the claim that the distortion is at most ε.
            reported: what a report says about the file.
            typed: values from the command line, which the report must not contradict.

        Returns:
            The verification, and the bound if a risk is measured.

        Raises:
            InputError: the network has numbers that the file lacks, and the user doesn't say that they were not learned.
        """
        with stdout_for_results():
            found = nncomplexity.measure.check_claims(
                self.coarse,
                self.task,
                against=self.original,
                eps=eps,
                reported=reported,
                faithfulness=self._faithfulness(),
                typed=typed,
            )
            constant = None
            if self.options.risk_fn:
                left_out = nncomplexity.network.numbers_left_out(self.task.network(self.coarse.weights()))
                nncomplexity.measure.check_left_out(left_out, self.options.left_out_is_architecture)
                constant = nncomplexity.network.constant_risk(self.task.risk, self.coarse.weights())
        return found, self.bound.of(found.bits, found.risk, constant)

    def _faithfulness(self) -> Divergence | None:
        """The divergence that says how faithful the file is. Without a loss, the divergence is the task's loss already."""
        return None if self.named is None or self.options.loss_fn is None else self.named.make()
