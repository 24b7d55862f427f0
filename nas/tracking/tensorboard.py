"""TensorBoard: event files in the run directory; ``tensorboard --logdir runs`` shows all runs beside each other."""

import time
from collections.abc import Sequence
from pathlib import Path

from nas.run import Run
from nas.tracking.base import Ending, Recorder, Step

FOLDER = "tensorboard"


class TensorBoard(Recorder):
    """Scalars after every evaluation, the picture of the front at the end.

    Args:
        folder: of the event files; every start of a run adds one.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        # A file is named by the second: two starts within one would be one file, and the first start's values gone.
        self._writer = SummaryWriter(str(folder), filename_suffix=f".{time.time_ns()}")
        self._last = 0

    def log(self, steps: Sequence[Step]) -> None:
        """Writes scalars, named ``search/...``."""
        for step, values in steps:
            for name, value in values.items():
                self._writer.add_scalar(f"search/{name}", value, step)
            self._last = step
        self._writer.flush()

    def close(self, ending: Ending, files: Sequence[Path]) -> None:
        """Writes the pictures among the files, and how the search ended."""
        import numpy as np
        from PIL import Image

        for file in files:
            if file.suffix == ".png":
                with Image.open(file) as image:
                    self._writer.add_image(file.stem, np.asarray(image.convert("RGB")), self._last, dataformats="HWC")
        self._writer.add_text("ending", ending, self._last)
        self._writer.close()


def open_for(run: Run) -> TensorBoard:
    """Returns the recorder of a run."""
    return TensorBoard(run.path / FOLDER)
