"""The verbs that keep measurements honest: audit a set by measuring some of it again, quarantine, lift."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.api.latency import spaces_of
from nas.errors import InputError
from nas.progress import Progress, ProgressListener, silent
from search_spaces.architecture import Architecture

if TYPE_CHECKING:
    from latency_predictors.audit import Verdict
    from latency_predictors.measurement import Measurement


@dataclass(frozen=True)
class Audited:
    """What `audit_latency` found.

    Attributes:
        verdict: on the set; None while rows are missing.
        rows: of the set, those to be measured again.
        fresh_ms: by key, what they measure now; without those that are missing.
        contradicted: keys of the rows that were wrong.
    """

    verdict: "Verdict | None"
    rows: "tuple[Measurement, ...]"
    fresh_ms: dict[str, float]
    contradicted: tuple[str, ...]

    @property
    def machine_stated(self) -> bool:
        """Whether every row tells the processor that it was measured on; imported ones do not."""
        from latency_predictors.environment import NOT_STATED

        return all(row.environment.cpu != NOT_STATED for row in self.rows)

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        verdict = asdict(self.verdict) | {"passed": self.verdict.passed} if self.verdict else None
        return {"verdict": verdict, "contradicted": list(self.contradicted), "rows": audit_rows(self)}


def audit_latency(
    data: Path,
    fresh: Path,
    *,
    measure: bool = False,
    share: float | None = None,
    space: str | None = None,
    preset: str = "quick",
    seed: int = 0,
    progress: ProgressListener = silent,
) -> Audited:
    """Compares some rows of a measurement set with fresh measurements; quarantines a set that is wrong too often.

    Args:
        data: the set, of one device profile.
        fresh: measurement set with the fresh rows; made where it is not there and ``measure`` says so.
        measure: whether to measure the rows that are missing now, on the set's own device.
        share: of the rows to compare, by default 3 %; at least 20 rows.
        space: YAML file of the networks' space where it is none that ships.
        preset: how carefully to measure.
        seed: of the choice of rows; the same rows again for the same set and seed.
        progress: told where the measuring stands.

    Raises:
        InputError: rows of several profiles, too few of them, a share that is none, an unknown space or device, a set
            that is to be compared with itself, or one of another machine than the fresh rows.
    """
    from latency_predictors.architecture_features import architecture_features, feature_columns
    from latency_predictors.audit import SHARE, choose_rows, contradicted, judge
    from latency_predictors.devices import get_device
    from latency_predictors.measurement import now
    from latency_predictors.session import measure_networks
    from latency_predictors.set_quarantine import SetQuarantine, quarantine
    from latency_predictors.store import MeasurementSet

    share = SHARE if share is None else share
    if not 0 < share <= 1:
        raise InputError(f"a share of the rows must be above 0 and at most 1, such as 0.03, got {share}")
    if fresh.resolve() == data.resolve():
        raise InputError(f"the fresh rows must be in a file of their own, got the set itself, {fresh}")
    rows = [row for row in MeasurementSet(data).read_usable() if row.architecture is not None]
    profiles = sorted({row.profile.id for row in rows})
    if len(profiles) != 1:
        raise InputError(f"{data} must hold rows of one device profile, it holds {', '.join(profiles) or 'none'}")
    architectures = [row.architecture for row in rows if row.architecture is not None]
    spaces = spaces_of(architectures, space)
    columns = feature_columns(architectures, spaces)
    features = architecture_features(architectures, columns, spaces)
    values, noise = _values_ms(rows), np.array([row.standard_error for row in rows])
    chosen = choose_rows(features, values, noise, columns, np.random.default_rng(seed), share=share)
    wanted = tuple(rows[row] for row in chosen)
    known = _by_key(fresh, profiles[0])
    missing: list[Architecture] = [architectures[row] for row in chosen if rows[row].key not in known]
    if missing and measure:
        unknown = [architecture for architecture in missing if architecture.space not in spaces]
        if unknown:
            raise InputError(f"networks of {unknown[0].space!r} cannot be built here: measure them and give the rows")
        profile = rows[0].profile
        _refuse_other_machine(data, wanted, {get_device(profile.device).environment(threads=profile.threads).cpu})
        networks = [(architecture, spaces[architecture.space].layers(architecture)) for architecture in missing]
        measure_networks(
            networks, profile, preset=preset, seed=seed, store=MeasurementSet(fresh),
            progress=lambda done, total, text: progress(Progress("measure", done, total, text)),
        )  # fmt: skip
        known = _by_key(fresh, profiles[0])
    compared = [row for row in wanted if row.key in known]
    again = [known[row.key] for row in compared]
    _refuse_other_machine(data, compared, {row.environment.cpu for row in again})
    fresh_ms = {row.key: row.latency_ms or 0.0 for row in again}
    if not compared or (len(compared) < len(wanted) and not measure):
        return Audited(None, wanted, fresh_ms, ())
    wrong = contradicted(
        _values_ms(compared), np.array([row.half_width for row in compared]),
        _values_ms(again), np.array([row.half_width for row in again]),
    )  # fmt: skip
    verdict = judge(wrong)
    keys = tuple(row.key for row, bad in zip(compared, wrong, strict=True) if bad)
    if not verdict.passed:
        reason = f"{verdict.contradicted} of {verdict.audited} rows measured again were wrong"
        quarantine(data, SetQuarantine(at=now(), reason=reason, audited=verdict.audited, contradicted=keys))
    return Audited(verdict, wanted, fresh_ms, keys)


def audit_rows(found: Audited) -> list[dict[str, object]]:
    """Returns a table row for each row that an audit compares."""
    return [
        {
            "key": row.key,
            "architecture": row.architecture.to_json() if row.architecture else "-",
            "stored_ms": row.latency_ms,
            "fresh_ms": found.fresh_ms.get(row.key, "-"),
            "wrong": row.key in found.contradicted if row.key in found.fresh_ms else "-",
        }
        for row in found.rows
    ]


def list_quarantined(paths: "list[Path]") -> list[dict[str, object]]:
    """Returns a table row for each measurement set in quarantine among files and folders."""
    from latency_predictors import set_quarantine

    tables = [table for path in paths for table in (set_quarantine.list_quarantined(path) if path.is_dir() else [path])]
    marks = [(table, set_quarantine.quarantine_of(table)) for table in tables]
    return [
        {"set": str(table), "since": mark.at.isoformat(timespec="seconds"), "reason": mark.reason}
        for table, mark in marks
        if mark
    ]


def lift_quarantine(data: Path) -> None:
    """Lets a measurement set be learned from again.

    Raises:
        InputError: it is not in quarantine.
    """
    from latency_predictors.set_quarantine import lift_quarantine

    lift_quarantine(data)


def _by_key(fresh: Path, profile: str) -> "dict[str, Measurement]":
    from latency_predictors.store import MeasurementSet

    if not fresh.exists():
        return {}
    return {row.key: row for row in MeasurementSet(fresh).read_usable() if row.profile.id == profile}


def _refuse_other_machine(data: Path, rows: "Sequence[Measurement]", fresh: set[str]) -> None:
    """Does nothing where the processors of rows and fresh ones are the same, or one side does not state them.

    Raises:
        InputError: they differ, and honest rows would look wrong.
    """
    from latency_predictors.environment import NOT_STATED

    stored = {row.environment.cpu for row in rows} - {NOT_STATED}
    fresh = fresh - {NOT_STATED}
    if stored and fresh and stored != fresh:
        raise InputError(
            f"{data} was measured on {' and '.join(sorted(stored))}, the fresh rows are of "
            f"{' and '.join(sorted(fresh))}: honest rows would look wrong; measure them again on the machine of the set"
        )


def _values_ms(rows: "list[Measurement]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([row.latency_ms for row in rows], np.float64)
