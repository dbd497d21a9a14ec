"""metrics.csv that a resumed run continues: Lightning's own logger would start it afresh."""

import csv
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from esr.files import write_csv


class RunCSVLogger(CSVLogger):
    """Logs to `save_dir/metrics.csv`, keeping the rows that are there."""

    def __init__(
        self,
        save_dir: str,  # the run folder
        flush_logs_every_n_steps: Annotated[int, Ge(1)] = 50,  # what a crash may cost
    ):
        super().__init__(save_dir, "", "", flush_logs_every_n_steps=flush_logs_every_n_steps)

    def log_hyperparams(self, params=None) -> None:
        """Nothing: the run folder holds resolved.yaml."""

    @property
    def experiment(self):
        if self._experiment is None:
            self._experiment = _KeepingWriter(self.log_dir)
        return self._experiment


class _KeepingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:  # where the parent removes the file
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


def forget_after(folder: Path, step: int) -> None:
    """Drop the rows from `step` on: a run resumed from an older checkpoint logs them again."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = [row for row in reader if int(row["step"]) < step]
    write_csv(path, rows, names)
