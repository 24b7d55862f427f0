"""The run directory: the files between the stages, and the only writer of its config and status.

::

    runs/<name>/  config.yaml  status.json  run.lock  ledger.db  ledger.journal
                  supernet/ or networks/<architecture key>/
                  measurements/<device>.parquet  predictors/<device>/v1/  front.json  front.html  front.png  picks.json
                  trust.json  trust.png  trust/seed-<seed>/<architecture key>/
                  finish/<architecture key>/
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Self

from nas.config import DataConfig, ExperimentConfig, load_config
from nas.errors import InputError, RunError
from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, read_json, with_checksum, write_json
from search_spaces.file_lock import FileHeldError, hold

# What candidates, accuracies and costs depend on: a run is resumed only where these have not changed.
# Where decoded images are kept changes none of them.
_DATA = (f"data.{field}" for field in DataConfig.model_fields if field not in ("memory_gb", "cache"))
_FIXED = (
    "space", *_DATA, "accuracy", "devices", "latency", "objectives", "constraints", "search.warm_start", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run directory and the resolved config it holds.

    Attributes:
        path: the directory.
        config: as resolved when the run was started, with the budget and resources of the last start.
    """

    path: Path
    config: ExperimentConfig

    @classmethod
    def start(cls, config: ExperimentConfig, path: Path | None = None) -> Self:
        """Returns the run of a config, made or resumed.

        Args:
            config: resolved.
            path: of the run's directory, which may have been moved or copied; by default the config's own.

        Raises:
            InputError: the directory holds a run whose space, data, objectives or seed differ.
        """
        path = path or config.run_dir
        other = cls.other_experiment(path, config)
        if other:
            raise InputError(other)
        run = cls(path, config)
        run.write_config()
        return run

    @classmethod
    def other_experiment(cls, path: Path, config: ExperimentConfig) -> str:
        """Returns, in a sentence, why the run in a directory is not the one of a config; empty where it is, or is new.

        Raises:
            InputError: the directory's config is damaged.
        """
        if not (path / "config.yaml").exists():
            return ""
        earlier = cls.open(path).config
        for key in _FIXED:
            was, now = attrgetter(key)(earlier), attrgetter(key)(config)
            if was != now:
                return (
                    f"{path} was started with another `{key}` ({_short(was)}; now {_short(now)}): "
                    f"choose another name with name=NEW, or restore `{key}`"
                )
        if (earlier.ledger is None) != (config.ledger is None):
            return (
                f"the ledger of {path} was started {'in' if earlier.ledger is None else 'outside'} the run "
                "directory: choose another name with name=NEW, or restore `ledger`"
            )
        return ""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Returns the run in a directory.

        Raises:
            InputError: there is no run, or its config is damaged.
        """
        if not path.is_dir():
            raise InputError(f"{path} is no run directory: give a directory that `nas run` made")
        return cls(path, load_config(path))

    def write_config(self) -> None:
        """Writes config.yaml."""
        text = f"{self.config.to_yaml()}# Written by hwnas; set key=value when starting the run instead of editing.\n"
        write_bytes(self.path / "config.yaml", with_checksum(f"{text}# {BLANK}\n".encode()))

    @property
    def ledger_path(self) -> Path:
        """The SQLite ledger."""
        return self.path / "ledger.db"

    @property
    def supernet_dir(self) -> Path:
        """Supernet weights and training checkpoints."""
        return self.path / "supernet"

    @property
    def networks_dir(self) -> Path:
        """Weights and checkpoints of candidates that are trained by themselves, one folder per architecture key."""
        return self.path / "networks"

    @property
    def front_path(self) -> Path:
        """The front as data."""
        return self.path / "front.json"

    @property
    def picks_path(self) -> Path:
        """The last picks."""
        return self.path / "picks.json"

    @property
    def trust_path(self) -> Path:
        """How far the ranking can be trusted; networks trained for that are in the folder of that name."""
        return self.path / "trust.json"

    @property
    def finish_dir(self) -> Path:
        """Finished bundles, one folder per architecture key."""
        return self.path / "finish"

    @property
    def predictors_dir(self) -> Path:
        """The catalog of the run's latency predictors, by device."""
        return self.path / "predictors"

    def measurements_path(self, device: str) -> Path:
        """The measurement set of a device of the config."""
        return self.path / "measurements" / f"{device}.parquet"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; the lock goes with the process, however it ends.

        Raises:
            RunError: another process works on this run.
        """
        with hold_run(self.path):
            yield

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """Records in status.json that a stage runs, and how it ended; gives what takes the text of a good end."""
        self._write_status(name, "running")
        texts = [""]
        try:
            yield texts.append
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            with suppress(OSError):  # the disk may be full, and that is what the error is about
                self._write_status(name, "interrupted" if interrupted else "failed", str(error))
            raise
        self._write_status(name, "done", texts[-1])

    def _write_status(self, stage: str, state: str, text: str = "") -> None:
        stages = self.status().get("stages", {})
        assert isinstance(stages, dict)
        stages[stage] = {"state": state, "at_unix_seconds": round(time.time(), 3), "text": text}
        self.write_status(stages)

    def write_status(self, stages: Mapping[str, object]) -> None:
        """Writes status.json."""
        # With the config, so that each of the two files can be restored from the other.
        config = self.config.model_dump(mode="json")
        write_json(self.path / "status.json", {"format": 1, "pid": os.getpid(), "stages": stages, "config": config})

    def status(self) -> dict[str, object]:
        """Returns the last status; empty before the first stage or where the file is damaged (it is only a report)."""
        try:
            return read_json(self.path / "status.json")
        except (OSError, ValueError):
            return {}


@contextmanager
def hold_run(path: Path) -> Iterator[None]:
    """Holds a run's directory as `Run.locked` does, whether or not its config can be read.

    Raises:
        RunError: another process works on this run.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        lock = hold(path / "run.lock")
    except FileHeldError as held:
        raise RunError(f"{path} is held by process {held.holder}: wait for it or stop it first") from None
    with lock:
        yield


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 90 else text[:87] + "..."
