"""The settings of rows are declared in one place, and an option that isn't declared is refused."""

from dataclasses import fields

import pytest
import torch

from nncomplexity import Divergence, Tracker, track
from nncomplexity.dynamics.settings import RowOptions, TrackSettings, settings_of
from tests.cases import mean_square


def test_the_options_of_rows_are_the_settings_but_for_the_budget_which_is_the_methods() -> None:
    settings = {field.name for field in fields(TrackSettings)} - {"eps", "loss_fn"}
    assert RowOptions.__annotations__.keys() == settings | {"budget"}


def test_what_is_left_out_has_the_default_of_the_settings() -> None:
    made, default = settings_of(mean_square, 0.1), {field.name: field.default for field in fields(TrackSettings)}
    assert {name: getattr(made, name) for name in ("delta", "device", "codec", "n", "key")} == {
        name: default[name] for name in ("delta", "device", "codec", "n", "key")
    }
    assert (made.method.name, made.method.budget) == ("tight", 400)


def test_the_settings_of_a_row_describe_its_divergence() -> None:
    given = Divergence(str, [torch.zeros(3, 2)])
    for settings in (settings_of(given, 0.1), settings_of(mean_square, 0.1, faithfulness=given)):
        assert settings.described().items() >= given.described().items()
    assert "outputs" not in settings_of(mean_square, 0.1).described()


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'bugdet'"):
        track("run/*", mean_square, 0.1, bugdet=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):  # of several, the first in the alphabet
        track("run/*", mean_square, 0.1, **dict.fromkeys("hgfedcba"))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'seeds'"):
        Tracker(mean_square, 0.1, seeds=3)  # type: ignore[call-arg]
