"""The catalog: fitted predictors on disk, by name and version, as JSON and safetensors.

    STORE/local-litert-int8/v1/manifest.json        what it is, what it learned from, how good it is, hashes
    STORE/local-litert-int8/v1/arrays.safetensors   everything it learned
    STORE/local-litert-int8/v1/learning.json        how good it was expected to be after how many rows
    STORE/local-litert-int8/v1/verified.json        how good it was when last evaluated, once it was
    STORE/local-litert-int8/promoted.json           the version that the name alone means, once one was promoted

What a version learned is never changed. It appears by one rename, so a reader finds all of it or nothing, and of two
processes that save at once each gets a version of its own.
"""

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from typing import Literal, TypeVar
from uuid import uuid4

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from latency_predictors.base import LatencyPredictor
from latency_predictors.evaluation import CrossValidation, FittedPredictor
from latency_predictors.features import FEATURE_NAMES
from latency_predictors.kinds import predictor_kind
from latency_predictors.learning_curve import LearningStep, read_learning_curve, write_learning_curve
from latency_predictors.metrics import Scores
from search_spaces.atomic import sync_folder, write_bytes
from search_spaces.checksum import read_json, write_json
from search_spaces.errors import InputError
from search_spaces.typed_yaml import FileModel, parse

ARRAYS = "arrays.safetensors"
MANIFEST = "manifest.json"
VERIFIED = "verified.json"
PROMOTED = "promoted.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Content = TypeVar("Content", bound=FileModel)
_VERSION = re.compile(r"v([1-9]\d*)")


class FileRecord(FileModel):
    """Of a file beside the manifest.

    Attributes:
        bytes: its size.
        sha256: of its content, hexadecimal.
    """

    bytes: int
    sha256: str


class CatalogEntry(FileModel):
    """What the catalog knows of one version of a predictor.

    Attributes:
        format: version of this file format.
        name: of the predictor.
        version: counted from 1.
        kind: a name of `latency_predictors.kinds.list_kinds`.
        metric: what is predicted, such as ``latency_ms``.
        device: id of the device profile.
        seed: of the predictor.
        training_set: id of the rows learned from (`FittedPredictor.training_set`).
        rows: how many those are.
        features: names of the columns learned from.
        validations: cross-validated scores of every kind that was tried, the chosen one first.
        versions: of the software that fitted it.
        created: UTC.
        files: beside the manifest, by name.
        origin: what it was copied from, ``folder/name/v2``; empty where it was fitted for this catalog.
    """

    format: Literal[1] = 1
    name: str
    version: int
    kind: str
    metric: str
    device: str
    seed: int
    training_set: str
    rows: int
    features: tuple[str, ...]
    validations: tuple[CrossValidation, ...]
    versions: dict[str, str]
    created: datetime
    files: dict[str, FileRecord]
    origin: str = Field(default="", exclude_if=lambda origin: not origin)

    @property
    def id(self) -> str:
        """As users write it: ``name/v2``."""
        return f"{self.name}/v{self.version}"

    @property
    def choices(self) -> frozenset[str]:
        """The choices learned from, such as ``stage1.kernel=3``; none where only layers were."""
        return frozenset(name for name in self.features if "=" in name)

    @property
    def of_choices(self) -> bool:
        """Whether it knows networks by their choices alone, not by their layers."""
        return all("=" in name for name in self.features)


class Verification(FileModel):
    """How good a version was on measurements, when it was last evaluated.

    Attributes:
        format: version of this file format.
        at: UTC.
        data: name of the measurement set.
        scores: on its rows.
        drift: why the predictor no longer matched its device (`latency_predictors.drift`); empty where it did.
    """

    format: Literal[1] = 1
    at: datetime
    data: str
    scores: Scores
    drift: str = ""


class _Promotion(FileModel):
    format: Literal[1] = 1
    version: int


@dataclass(frozen=True)
class Catalog:
    """The predictors of a folder.

    Attributes:
        path: the folder; made by the first `save`.
    """

    path: Path

    def save(self, name: str, fitted: FittedPredictor) -> CatalogEntry:
        """Saves a predictor as the next version of a name; it is on disk, whole, when this returns.

        Raises:
            InputError: the name is not letters, digits, dots, dashes and underscores.
            OSError: the disk refuses; nothing was added.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"a predictor's name must be letters, digits, '.', '-' and '_', starting with a letter or digit, "
                f"got {name!r}"
            )
        predictor = fitted.predictor
        arrays = save_arrays({key: np.ascontiguousarray(array) for key, array in predictor.arrays().items()})
        entry = CatalogEntry(
            name=name,
            version=1,
            kind=predictor.kind,
            metric=predictor.metric,
            device=predictor.device,
            seed=predictor.seed,
            training_set=fitted.training_set,
            rows=fitted.validations[0].scores.rows,
            features=predictor.columns,
            validations=fitted.validations,
            versions={"hwnas": version("hwnas"), "numpy": np.__version__, "python": platform.python_version()},
            created=datetime.now(UTC),
            files={ARRAYS: FileRecord(bytes=len(arrays), sha256=hashlib.sha256(arrays).hexdigest())},
        )
        return self._add(entry, arrays, fitted.learning)

    def copy(self, entry: CatalogEntry, to: "Catalog", name: str) -> CatalogEntry:
        """Saves a version of this catalog as the next version of a name in another one, which states its origin.

        Raises:
            InputError: a file of it is damaged, or it cannot be loaded.
            OSError: the disk refuses; nothing was added.
        """
        self.load(entry.id, of_choices=True)
        arrays = (self.path / entry.name / f"v{entry.version}" / ARRAYS).read_bytes()
        copied = entry.model_copy(update={"name": name, "origin": f"{self.path}/{entry.id}"})
        return to._add(copied, arrays, self.learning_curve(entry))

    def _add(self, entry: CatalogEntry, arrays: bytes, learning: Sequence[LearningStep]) -> CatalogEntry:
        """Adds a version under the entry's name, whole, with the next number."""
        folder = self.path / entry.name
        temporary = folder / f".new-{uuid4().hex}"
        try:
            write_bytes(temporary / ARRAYS, arrays)
            write_learning_curve(learning, temporary)
            number = max(self._versions(entry.name), default=0) + 1
            while True:
                added = entry.model_copy(update={"version": number})
                write_json(temporary / MANIFEST, added.model_dump(mode="json"))
                try:
                    os.rename(temporary, folder / f"v{number}")
                    break
                except OSError:
                    if not (folder / f"v{number}").exists():
                        raise
                    number += 1  # another process was faster
        except BaseException:
            rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder)
        return added

    def promote(self, name: str) -> CatalogEntry:
        """Makes a version the one that its name alone means, whatever is saved later; returns its entry.

        Args:
            name: ``name/v2``, or ``name/latest`` for the one that is the latest now.

        Raises:
            InputError: there is no such version, or none is named.
        """
        if "/" not in name:
            raise InputError(f"to promote, name a version, such as {name}/v1 or {name}/latest, got {name!r}")
        entry = self.entry(name)
        promotion = _Promotion(version=entry.version)
        write_json(self.path / entry.name / PROMOTED, promotion.model_dump(mode="json"))
        return entry

    def promoted(self, name: str) -> int | None:
        """Returns the promoted version of a name; None where its latest version is meant.

        Raises:
            InputError: the file that says so is damaged.
        """
        path = self.path / name / PROMOTED
        return _read_model(_Promotion, path).version if path.exists() else None

    def learning_curve(self, entry: CatalogEntry) -> tuple[LearningStep, ...]:
        """Returns how a version's expected error fell with the rows it learned from; empty for one of old.

        Raises:
            InputError: the file that says so is damaged.
        """
        return read_learning_curve(self.path / entry.name / f"v{entry.version}")

    def verify(self, entry: CatalogEntry, data: str, scores: Scores, drift: str = "") -> Verification:
        """Records how good a version was on measurements, in place of what was recorded before."""
        verification = Verification(at=datetime.now(UTC), data=data, scores=scores, drift=drift)
        path = self.path / entry.name / f"v{entry.version}" / VERIFIED
        write_json(path, verification.model_dump(mode="json"))
        return verification

    def verified(self, entry: CatalogEntry) -> Verification | None:
        """Returns how good a version was when last evaluated; None where it never was.

        Raises:
            InputError: the file that says so is damaged.
        """
        path = self.path / entry.name / f"v{entry.version}" / VERIFIED
        return _read_model(Verification, path) if path.exists() else None

    def load(self, name: str, *, of_choices: bool = False) -> LatencyPredictor:
        """Returns the predictor of ``name`` (its promoted version, else its latest), ``name/latest`` or ``name/v2``.

        Args:
            name: as users write it.
            of_choices: whether one of choices alone will do.

        Raises:
            InputError: there is no such predictor, a file of it is damaged, another version of the product made it, or
                it is one of choices where that will not do.
        """
        entry = self.entry(name)
        folder = self.path / entry.name / f"v{entry.version}"
        if entry.of_choices and not of_choices:
            raise InputError(
                f"{entry.id} predicts vectors of a space without known layers; fit one to networks instead"
            )
        if any("=" not in name and name not in FEATURE_NAMES for name in entry.features):
            raise InputError(f"{folder} was fitted to other features than this version computes; fit it again")
        record = entry.files.get(ARRAYS)
        try:
            data = (folder / ARRAYS).read_bytes()
        except OSError as error:
            raise _damaged(folder / ARRAYS, error.strerror or str(error)) from None
        if record is None or (len(data), hashlib.sha256(data).hexdigest()) != (record.bytes, record.sha256):
            raise _damaged(folder / ARRAYS, "its size or SHA-256 is not the one in the manifest")
        try:
            arrays = load_arrays(data)
            return predictor_kind(entry.kind).restore(entry.metric, entry.device, entry.seed, arrays, entry.features)
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise _damaged(folder / ARRAYS, str(error).splitlines()[0]) from None

    def entry(self, name: str) -> CatalogEntry:
        """Returns what is known of ``name`` (its promoted version, else its latest), ``name/latest`` or ``name/v2``.

        Raises:
            InputError: there is no such predictor, or its manifest is damaged.
        """
        base, _, wanted = name.partition("/")
        versions = self._versions(base)
        if not versions:
            close = get_close_matches(base, self._names(), 1)
            hint = f"; did you mean {close[0]!r}?" if close else "; `nas latency fit` makes one"
            raise InputError(f"no predictor {base!r} in {self.path}{hint}")
        match = _VERSION.fullmatch(wanted)
        promoted = None if wanted else self.promoted(base)
        if promoted is not None and promoted not in versions:
            raise InputError(f"{base}/v{promoted} was promoted and is gone: promote one that is there")
        latest = promoted or versions[-1]
        number = latest if wanted in {"", "latest"} else int(match[1]) if match else 0
        if number not in versions:
            known = ", ".join(f"v{version}" for version in versions)
            raise InputError(f"predictor {base!r} has the versions {known} and latest, got {wanted!r}")
        return _read_model(CatalogEntry, self.path / base / f"v{number}" / MANIFEST)

    def entries(self) -> list[CatalogEntry]:
        """Returns every version of every predictor, by name and version.

        Raises:
            InputError: a manifest is damaged.
        """
        return [self.entry(f"{name}/v{number}") for name in self._names() for number in self._versions(name)]

    def _names(self) -> list[str]:
        return sorted(_folders(self.path, _NAME))

    def _versions(self, name: str) -> list[int]:
        if not _NAME.fullmatch(name):
            return []
        return sorted(int(folder[1:]) for folder in _folders(self.path / name, _VERSION))


def _folders(path: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    if path.is_dir():
        yield from (child.name for child in path.iterdir() if child.is_dir() and pattern.fullmatch(child.name))


def _read_model(model: type[Content], path: Path) -> Content:
    try:
        content = read_json(path)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return parse(model, content, str(path))


def _damaged(path: Path, why: str) -> InputError:
    mend = "delete it" if path.name in {VERIFIED, PROMOTED} else "delete its folder and fit again"
    return InputError(f"{path} is damaged ({why}); restore it from a copy, or {mend}")
