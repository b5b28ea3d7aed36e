"""A package that isn't there is named."""

import sys

import pytest

import nncomplexity.integrations
from nncomplexity.errors import InputError

PACKAGES = {
    "lightning": "LightningCallback",
    "transformers": "TransformersCallback",
    "wandb": "WandbWriter",
    "mlflow": "MLflowWriter",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"nncomplexity.integrations.{package}", raising=False)
    with pytest.raises(InputError, match=rf"it needs the package '{package}.*'; pip install 'nncomplexity\[integrations\]'"):
        getattr(nncomplexity.integrations, PACKAGES[package])


def test_another_name_is_none_of_the_wing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'CometWriter'"):
        _ = nncomplexity.integrations.CometWriter  # type: ignore[attr-defined]
