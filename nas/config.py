"""The experiment file: one YAML that says what is searched, on what data, for which devices, and how.

A config holds choices, not code. Unknown keys are refused and all errors are reported at once (`typed_yaml.parse`).
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_serializer, field_validator, model_validator

from nas.device_config import DeviceConfig
from nas.errors import InputError
from nas.objectives import Constraint, Objective
from nas.training_config import (
    AccuracyConfig,
    EarlyStoppingConfig,
    FinishConfig,
    StandAloneConfig,
    SupernetConfig,
    TrainingConfig,
)
from search_spaces.checksum import verify_checksum
from search_spaces.space import SearchSpace, load_space
from search_spaces.typed_yaml import FileModel, parse, read_yaml

__all__ = [
    "AccuracyConfig",
    "DataConfig",
    "DeviceConfig",
    "EarlyStoppingConfig",
    "ExperimentConfig",
    "FinishConfig",
    "LatencyConfig",
    "RayConfig",
    "SearchConfig",
    "SpaceConfig",
    "StandAloneConfig",
    "SupernetConfig",
    "TrackerName",
    "TrainingConfig",
    "load_config",
    "without_password",
]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
TrackerName = Literal["mlflow", "tensorboard"]


class SpaceConfig(FileModel):
    """Which space; ``space: tiny`` is short for ``space: {name: tiny}``.

    Attributes:
        name: a shipped space or a path to a YAML file.
        resolution: replaces the space's choices of input resolution, in pixels. A single one stays part of every
            architecture's key, so that networks of other resolutions have other keys.
    """

    name: str
    resolution: list[Annotated[int, Field(ge=4, le=1024)]] | None = Field(default=None, min_length=1)

    @field_validator("name")
    @classmethod
    def _must_load(cls, name: str) -> str:
        load_space(name)
        return name

    def load(self) -> SearchSpace:
        """Returns the space, its resolutions replaced where the experiment says so."""
        space = load_space(self.name)
        if self.resolution is None:
            return space
        own = tuple(self.resolution)
        update = {"resolution": own, "keyed_resolution": len(own) == 1 and own != space.table.resolution}
        return SearchSpace(space.table.model_copy(update=update))


class DataConfig(FileModel):
    """Which images; ``data: digits`` is short for ``data: {name: digits}``.

    Attributes:
        name: ``digits`` (embedded), ``idx`` (MNIST-style files), ``parquet`` (image bytes and label) or ``folder``
            (one folder per class).
        path: folder of the files; not for digits.
        validation_fraction: share of the training images kept for selection.
        test_fraction: share kept for the final test where the data has no test split of its own.
        max_images: use only the first N training images (after shuffling), for trials; null for all.
        flip: whether a mirrored image keeps its class (photographs do, digits do not), so that training may mirror.
        seed: of the splits.
        memory_gb: images of Parquet tables and folders that are larger than this once decoded, in 10^9 bytes, are kept
            in a file instead of memory (docs/data.md).
        cache: folder of such files; by default ``hwnas/images`` in the user's cache directory. The disk must hold the
            decoded images.
    """

    name: Literal["digits", "idx", "parquet", "folder"] = "digits"
    path: Path | None = None
    validation_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    max_images: Count | None = None
    flip: bool = False
    seed: int = 0
    memory_gb: Annotated[float, Field(ge=0)] = 2.0
    cache: Path | None = None

    @model_validator(mode="after")
    def _path_where_needed(self) -> "DataConfig":
        if (self.path is None) != (self.name == "digits"):
            raise ValueError("path is required for idx, parquet and folder, and digits has none")
        return self


class LatencyConfig(FileModel):
    """How many networks are measured to fit a device's predictors, and how carefully.

    Attributes:
        count: of networks; to fit and cross-validate takes 13 different ones.
        preset: ``quick``, ``standard``, or ``energy``: as quick, and energy too, at 10 s a network in every launch.
    """

    count: Annotated[int, Field(ge=13)] = 48
    preset: Literal["quick", "standard", "energy"] = "quick"


class SearchConfig(FileModel):
    """The search.

    Attributes:
        sampler: ``hypervolume`` (Gaussian process and expected hypervolume improvement; needs the fewest evaluations),
            ``nsga2``, ``tpe`` (multivariate) or ``random``.
        budget: distinct architectures to evaluate.
        population: of NSGA-II.
        mirror: an Optuna storage's URL, such as ``sqlite:///runs/digits/optuna.db``, that is kept a copy of the
            search, so that ``optuna-dashboard`` shows it; null for none. The run's own config.yaml leaves a password
            out.
        accuracy_noise: standard deviation of repeated evaluations of one architecture, as a fraction; for
            ``hypervolume``. 0 where, as with a supernet, the same architecture always gets the same accuracy.
        min_gain: the search ends when the last `GAIN_PATIENCE` proposals of ``hypervolume`` were all expected to add
            less than this share to the hypervolume of the front; null for no such end.
        max_minutes: of searching, summed over all starts of the run; of a start that was killed, the time up to its
            last commit counts. Running evaluations are awaited. Null for no limit.
        retry_seconds: a candidate whose evaluation failed waits this long before its next one, then twice as long, and
            so on; others go on meanwhile, except where there is one worker: it waits, so that their order stays.
        warm_start: what is proposed first: ``published`` (the published networks that the space has), directories of
            runs (what they evaluated, their front first), architectures in their short form. All are evaluated here.
        extended_from: written by ``nas search --more``: evaluations there were when the last extension began.
    """

    sampler: Literal["hypervolume", "nsga2", "tpe", "random"] = "hypervolume"
    budget: Count = 120
    population: Annotated[int, Field(ge=4)] = 24
    mirror: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*://\S+$")] | None = Field(default=None, repr=False)
    accuracy_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_gain: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    retry_seconds: Annotated[float, Field(ge=0)] = 1.0
    warm_start: tuple[str, ...] = ()
    extended_from: Annotated[int, Field(ge=0)] | None = None

    @field_serializer("mirror")
    def _mirror_saved(self, url: str | None) -> str | None:
        return without_password(url)


class RayConfig(FileModel):
    """How evaluations are distributed.

    Attributes:
        executor: ``serial`` (in this process; same seed, same candidates) or ``ray`` (a pool of actors).
        address: ``local`` starts a private Ray on this machine; else a running cluster's address.
        workers: actors.
        cpus_per_worker: CPU cores reserved for, and threads used by, an actor.
        gpus_per_worker: share of a GPU reserved for an actor; fractions put several on one GPU.
    """

    executor: Literal["serial", "ray"] = "ray"
    address: str = "local"
    workers: Count = 2
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0


class ExperimentConfig(FileModel):
    """A whole experiment file.

    Attributes:
        format: version of this file format.
        name: of the run; its directory is ``runs_dir/name``.
        runs_dir: where run directories are made.
        ledger: a PostgreSQL database instead of the SQLite file in the run directory, as
            ``postgresql+psycopg://USER@HOST/DATABASE``. The run's tables are in a schema named after the run. A
            password is better left to ``PGPASSWORD`` or ``~/.pgpass``: the run's own config.yaml leaves it out.
        tracking: tools that follow the search, ``mlflow`` and ``tensorboard``; each is an extra of the installation.
        seed: of everything random.
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    runs_dir: Path = Path("runs")
    space: SpaceConfig
    data: DataConfig = DataConfig()
    accuracy: Annotated[SupernetConfig | StandAloneConfig, Field(discriminator="method")] = SupernetConfig()
    devices: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], DeviceConfig], Field(min_length=1)]
    latency: LatencyConfig = LatencyConfig()
    objectives: Annotated[tuple[str, ...], Field(min_length=2)]
    constraints: tuple[str, ...] = ()
    search: SearchConfig = SearchConfig()
    ray: RayConfig = RayConfig()
    finish: FinishConfig = FinishConfig()
    ledger: str | None = Field(default=None, repr=False)
    tracking: tuple[TrackerName, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("space", "data", mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("accuracy", mode="before")
    @classmethod
    def _default_method(cls, value: object) -> object:
        return {"method": "supernet", **value} if isinstance(value, dict) else value

    @field_validator("objectives")
    @classmethod
    def _objectives_parse(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        parsed = tuple(Objective.parse(name).name for name in names)
        if len(set(parsed)) != len(parsed):
            raise ValueError("objectives must differ from each other")
        if "accuracy" not in parsed:
            raise ValueError("accuracy must be among the objectives")
        return parsed

    @field_validator("constraints")
    @classmethod
    def _constraints_parse(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Constraint.parse(text).text for text in texts)

    @field_validator("ledger", mode="before")
    @classmethod
    def _ledger_is_postgresql(cls, url: object) -> object:
        # The value may hold a password: no message shows it.
        if url is None:
            return None
        if not isinstance(url, str) or not url.startswith("postgresql+psycopg://") or "password=" in url:
            raise ValueError(
                "must be postgresql+psycopg://USER@HOST/DATABASE, its password before the @ or in PGPASSWORD; or null "
                "for a file in the run directory"
            )
        return url

    @field_serializer("ledger")
    def _ledger_saved(self, url: str | None) -> str | None:
        return without_password(url)

    @model_validator(mode="after")
    def _devices_exist(self) -> "ExperimentConfig":
        for objective in self.parsed_terms:
            if objective.device and objective.device not in self.devices:
                raise ValueError(f"{objective.name} names a device that `devices` does not list: {list(self.devices)}")
        return self

    @model_validator(mode="after")
    def _hosts_are_in_a_cluster(self) -> "ExperimentConfig":
        for name, device in self.devices.items():
            if device.host and self.ray.address == "local":
                raise ValueError(
                    f"devices.{name}.host names a machine of a Ray cluster, and ray.address is local: give the "
                    "cluster's address, or leave host out"
                )
        return self

    @model_validator(mode="after")
    def _early_stopping_has_its_executor(self) -> "ExperimentConfig":
        stops = isinstance(self.accuracy, StandAloneConfig) and self.accuracy.early_stopping
        if stops and self.ray.executor != "ray":
            raise ValueError("accuracy.early_stopping needs ray.executor: ray; set that, or early_stopping: null")
        return self

    @property
    def parsed_objectives(self) -> tuple[Objective, ...]:
        """The objectives as values."""
        return tuple(map(Objective.parse, self.objectives))

    @property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints as values."""
        return tuple(map(Constraint.parse, self.constraints))

    @property
    def parsed_terms(self) -> tuple[Objective, ...]:
        """Everything that is an objective or bounded, each once."""
        bounded = (constraint.objective for constraint in self.parsed_constraints)
        return tuple(dict.fromkeys((*self.parsed_objectives, *bounded)))

    @property
    def run_dir(self) -> Path:
        """Where the run's files go."""
        return self.runs_dir / self.name

    def to_yaml(self) -> str:
        """Returns the resolved file, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def without_password(url: str | None) -> str | None:
    """Returns ``scheme://USER@HOST/...`` of ``scheme://USER:PASSWORD@HOST/...``."""
    return url and re.sub(r"(://[^:/@]*):.*@", r"\1@", url)  # a password may hold any character


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> ExperimentConfig:
    """Returns the experiment of a file with ``key.path=value`` overrides applied.

    Args:
        path: the YAML file, or a run directory, whose resolved file is read.
        overrides: each replaces one field; the value is read as YAML.

    Raises:
        InputError: the file or an override breaks a rule; every broken rule is named.
    """
    file = path / "config.yaml" if path.is_dir() else path
    if file != path and not file.is_file():
        raise InputError(f"{path} is no run directory (it has no config.yaml): give a directory that `nas run` made")
    if file != path:
        _verify_resolved(file)
    data = read_yaml(file)
    for override in overrides:
        _override(data, override)
    return parse(ExperimentConfig, data, str(file))


def _verify_resolved(file: Path) -> None:
    try:
        verify_checksum(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} was edited or damaged ({error}): `nas doctor {file.parent} --repair` restores it; settings are "
            "changed with key=value when the run is started"
        ) from None


def _override(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"an override is key.path=value, got {override!r}")
    *parents, last = dotted.split(".")
    place: Any = data
    for parent in parents:
        short = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and (short is None or isinstance(short, str)):
            place[parent] = {"name": short} if short else {}
        if not isinstance(place, dict) or not isinstance(place[parent], dict):
            raise InputError(f"override {override!r}: {parent!r} is not a group of keys")
        place = place[parent]
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"override {override!r}: the value is not valid YAML") from None
