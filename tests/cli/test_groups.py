"""An option that several commands have is the same option everywhere: it has the same names, type and help."""

import inspect
from dataclasses import dataclass

import pytest
from typer.main import get_command

from nncomplexity.cli.commands import app
from nncomplexity.cli.groups import DistortionGroup, MethodGroup, NetworkGroup, RiskGroup, SearchGroup, grouped

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
SHARED = {
    "measure": (DistortionGroup, NetworkGroup, SearchGroup, RiskGroup),
    "curve": (DistortionGroup, NetworkGroup, SearchGroup, RiskGroup),
    "bound": (NetworkGroup, SearchGroup),
    "track": (DistortionGroup, MethodGroup, RiskGroup),
}


@pytest.mark.parametrize(("command", "groups"), SHARED.items())
def test_a_command_has_every_option_of_its_groups(command: str, groups: tuple[type, ...]) -> None:
    options = {option.name: option for option in COMMANDS[command].params}
    asked = {option.name: option for option in COMMANDS["measure"].params}
    for name in (name for group in groups for name in inspect.signature(group).parameters):
        assert (options[name].help, options[name].opts, options[name].default) == (
            asked[name].help,
            asked[name].opts,
            asked[name].default,
        )


@dataclass(frozen=True)
class _Pair:
    left: int
    right: str = "r"


def test_groups_are_made_of_their_fields_and_handed_over() -> None:
    def command(name: str, pair: _Pair, last: bool = False) -> tuple[str, _Pair, bool]:
        """What the command does."""
        return name, pair, last

    run = grouped(command)
    assert list(inspect.signature(run).parameters) == ["name", "left", "right", "last"]
    assert inspect.signature(run).parameters["left"].default is inspect.Parameter.empty
    assert run(name="n", left=1, right="x", last=True) == ("n", _Pair(1, "x"), True)
    assert run.__doc__ == command.__doc__
