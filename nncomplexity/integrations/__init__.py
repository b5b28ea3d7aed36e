"""Callbacks of training loops, and writers to experiment trackers. Each module needs its own package, which only that module imports.

- `loops`: what the callbacks do in every training loop
- `lightning`: a callback of Lightning's Trainer
- `transformers`: a callback of the Trainer of transformers
- `writing`: what the writers do for every tracker: values, picture, page and files
- `tensorboard`: writes to TensorBoard
- `wandb`: writes to Weights & Biases
- `mlflow`: writes to MLflow

`from nncomplexity.integrations import LightningCallback` imports Lightning, and so on; `import nncomplexity.integrations` imports none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nncomplexity.errors import InputError

if TYPE_CHECKING:
    from nncomplexity.integrations.lightning import LightningCallback
    from nncomplexity.integrations.mlflow import MLflowWriter
    from nncomplexity.integrations.tensorboard import TensorBoardWriter
    from nncomplexity.integrations.transformers import TransformersCallback
    from nncomplexity.integrations.wandb import WandbWriter

_FILES = {
    "LightningCallback": "lightning",
    "MLflowWriter": "mlflow",
    "TensorBoardWriter": "tensorboard",
    "TransformersCallback": "transformers",
    "WandbWriter": "wandb",
}


def __getattr__(name: str) -> Any:
    """A callback or a writer. Its package is imported now.

    Raises:
        AttributeError: there is no such name.
        InputError: the package isn't installed.
    """
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name}: it needs the package {error.name!r}; pip install 'nncomplexity[integrations]'") from error


__all__ = [
    "LightningCallback",
    "MLflowWriter",
    "TensorBoardWriter",
    "TransformersCallback",
    "WandbWriter",
]
