"""Writes complexity to TensorBoard."""

import os
import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nncomplexity.integrations.writing import ComplexityWriter, Files


class TensorBoardWriter(ComplexityWriter):
    """Writes rows and reports to the log of a run. TensorBoard keeps no files: they are written to the run's folder, below `prefix`.

    Args:
        writer: a `SummaryWriter`, or the folder for one.
        prefix: the beginning of the names of all values.

    Raises:
        InputError: `prefix` isn't usable.
    """

    def __init__(self, writer: SummaryWriter | str | os.PathLike[str], prefix: str = "complexity/") -> None:
        super().__init__(prefix)
        self._writer = SummaryWriter(os.fspath(writer)) if isinstance(writer, str | os.PathLike) else writer

    def _write(self, values: dict[str, float], step: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, round(step))
        self._writer.flush()

    def _keep(self, files: Files, name: str, step: float) -> None:
        folder = Path(self._writer.log_dir) / self._prefix.strip("/") / f"{name}_step_{step:g}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in (files.page, *files.others, *([files.picture] if files.picture else [])):
            shutil.copyfile(path, folder / path.name)
        if files.picture:
            from matplotlib.image import imread

            self._writer.add_image(f"{self._prefix}rate_distortion", imread(files.picture), round(step), dataformats="HWC")
        self._writer.flush()
