"""The message names a package that isn't installed."""

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
    for name in {package, *(name for name in sys.modules if name.startswith(f"{package}."))}:  # other tests import its modules
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"nncomplexity.integrations.{package}", raising=False)
    with pytest.raises(InputError, match=rf"it needs the package '{package}.*'; pip install 'nncomplexity\[integrations\]'"):
        getattr(nncomplexity.integrations, PACKAGES[package])


def test_another_name_is_none_of_the_wing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'CometWriter'"):
        _ = nncomplexity.integrations.CometWriter  # type: ignore[attr-defined]
