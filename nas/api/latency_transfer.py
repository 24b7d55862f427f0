"""The verb that learns a new device from few measurements and a bank of other devices.

The tool chooses networks, and their measurements come from a table, from the device itself, or, where the tool cannot
reach it, from whoever is told what to measure next.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.api.latency import spaces_of
from nas.api.target_costs import MeasuredCosts, TableCosts
from nas.errors import InputError
from nas.progress import Progress, ProgressListener, silent
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.space import is_space_file

if TYPE_CHECKING:
    from latency_predictors.catalog import CatalogEntry
    from latency_predictors.device_columns import DeviceColumn
    from latency_predictors.few_shot import FewShot
    from latency_predictors.finding import Finding
    from latency_predictors.learning_curve import LearningStep
    from latency_predictors.measurement import Metric
    from latency_predictors.metrics import Scores

PICTURE = "learning_curve.png"
"""Beside the predictor."""
TEST_SHARE = 0.25
"""Of the target's networks, kept from bank and choice alike to score the result, where there are enough of them."""
ENOUGH = 4
"""Times the samples: with fewer networks of the target none is kept back."""


@dataclass(frozen=True)
class Transferred:
    """What `transfer_latency` did.

    Attributes:
        entry: of the predictor in its folder.
        target: the new device.
        sources: devices of the bank.
        bank_rows: networks that all of them were measured with.
        left_out: source devices of the target's family, which the bank must not know.
        learned: the learning curve and what was measured.
        keys: of the networks that were measured, in order.
        scores: on the target's other networks; None where none are left.
        findings: of the linter, on all tables.
        picture: of the learning curve.
    """

    entry: "CatalogEntry"
    target: str
    sources: tuple[str, ...]
    bank_rows: int
    left_out: tuple[str, ...]
    learned: "FewShot"
    keys: tuple[str, ...]
    scores: "Scores | None"
    findings: "tuple[Finding, ...]"
    picture: Path

    def to_dict(self) -> dict[str, object]:
        """Returns all but the findings as JSON values."""
        return {
            "predictor": self.entry.id,
            "device": self.entry.device,
            "sources": list(self.sources),
            "bank_rows": self.bank_rows,
            "left_out": list(self.left_out),
            "resembles_bank": self.learned.resembles_bank,
            "own_share": self.learned.own_share,
            "reached": self.learned.reached,
            "learning_curve": [asdict(step) for step in self.learned.steps],
            "measured": list(self.keys),
            "scores": asdict(self.scores) if self.scores else None,
            "picture": str(self.picture),
        }


@dataclass(frozen=True)
class ToMeasure:
    """Where `transfer_latency` waits for measurements that it cannot make.

    Attributes:
        target: the new device.
        architectures: to be measured on it next.
        measured: keys of the networks learned from so far, in order.
        steps: the learning curve so far.
    """

    target: str
    architectures: tuple[Architecture, ...]
    measured: tuple[str, ...]
    steps: "tuple[LearningStep, ...]"

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return {
            "device": self.target,
            "measure_next": self.rows(),
            "measured": list(self.measured),
            "learning_curve": [asdict(step) for step in self.steps],
        }

    def rows(self) -> list[dict[str, object]]:
        """Returns a table row for each network to measure, with the columns that a table of measurements has."""
        return [{"key": one.key, "space": one.space, "arch": one.to_json()} for one in self.architectures]


def transfer_latency(
    sources: Sequence[Path],
    target: str,
    *,
    data: Path | None = None,
    measure: bool = False,
    precision: Precision | None = None,
    threads: int = 1,
    preset: str = "quick",
    metric: "Metric" = "latency_ms",
    samples: int = 20,
    choose: bool = True,
    until_mape: float | None = None,
    name: str | None = None,
    store: Path = Path("predictors"),
    space: str | None = None,
    seed: int = 0,
    report: Path | None = None,
    progress: ProgressListener = silent,
) -> Transferred | ToMeasure:
    """Learns a new device from few of its measurements and those of other devices; saves the predictor.

    Where ``data`` has fewer networks than ``samples``, those to measure are chosen among the networks of the sources.
    They are measured now, or returned, to be measured by somebody else; the same call goes on from the rows in
    ``data``, and chooses the same networks again.

    Args:
        sources: tables or measurement sets of other devices; rows that the linter would not learn from are left out.
        target: name of the new device; one that can be measured on, such as ``ssh/pi5/litert``, where it is to be.
        data: table with its rows; by default they are in the sources.
        measure: whether to measure what ``data``, a measurement set, lacks; it is made where it is not there.
        precision: of the rows of the target; to be measured with, ``fp32`` by default.
        threads: likewise, where a precision is given or to measure with.
        preset: how carefully to measure.
        metric: what to predict; rows that do not have it are left out.
        samples: most rows of it to use, at least 10.
        choose: the most telling networks; at random otherwise.
        until_mape: stops as soon as the upper end of the expected error is at most this fraction.
        name: of the predictor; by default the target's, with dashes for slashes.
        store: folder of predictors.
        space: what ``arch`` is written in, where no column says it; or the YAML file of the networks' space where it is
            none that ships.
        seed: of choice and folds.
        report: page to write (.html), with a picture beside it (.png), where networks are left to score the result.
        progress: told after every batch, and where the measuring stands.

    Returns:
        What was learned, or what is to be measured first.

    Raises:
        InputError: no such device, no source of another family, too few networks in common, a table that breaks a rule,
            networks to measure that cannot be built here.
        DeviceError: the device cannot measure.
    """
    from latency_predictors.architecture_features import architecture_features, feature_columns
    from latency_predictors.catalog import Catalog
    from latency_predictors.device_columns import complete_rows, device_columns
    from latency_predictors.few_shot import FewShotLearner
    from latency_predictors.measurement import DeviceProfile
    from latency_predictors.metrics import scores
    from latency_predictors.set_quarantine import refuse_quarantined
    from latency_predictors.source_bank import SourceBank
    from latency_predictors.table_file import read_table
    from nas.plots.latency_files import write_report
    from nas.plots.latency_report import LatencyReport
    from nas.plots.learning_png import write_learning_png

    own_space, written = (space, None) if space and is_space_file(space) else (None, space)
    for path in [*sources, *([data] if data else [])]:
        refuse_quarantined(path)
    columns, findings = device_columns([read_table(path) for path in sources], written, metric)
    profile = DeviceProfile(target, precision or "fp32", threads)
    wanted = profile.id if precision else target
    own: DeviceColumn | None = None
    if data is None and not measure:
        own = _column(columns, wanted, metric)
    elif data and data.exists() and not measure:
        more, found = device_columns([read_table(data)], written, metric)
        own, findings = _column(more, wanted, metric), findings + found
    own_name = own.name if own else f"{target}/{profile.precision}"
    family = own.family if own else _family(target, measure, threads)
    # Of a machine that is not known yet the processor is not, which ends the families of the columns.
    alike = [column for column in columns if f"{column.family}/".startswith(f"{family}/")]
    others = [column for column in columns if column not in alike]
    if not others:
        raise InputError(f"no source of another family than {family!r}: give tables of other devices with --sources")
    shared, values = complete_rows(others)

    rng = np.random.default_rng(seed)
    networks = list(own.values) if own else []
    if own and (data is None or len(networks) >= samples):
        shuffled = [networks[row] for row in rng.permutation(len(networks))]
        kept_back = round(TEST_SHARE * len(networks)) if len(networks) >= ENOUGH * samples else 0
        test, candidates = set(shuffled[:kept_back]), shuffled[kept_back:]
    else:
        test, candidates = set(), shared
    kept = [row for row, network in enumerate(shared) if network not in test]
    bank_networks = [shared[row] for row in kept]
    loaded = spaces_of([*bank_networks, *networks], own_space)
    names = feature_columns([*bank_networks, *candidates], loaded)
    costs: MeasuredCosts | TableCosts
    if measure:
        costs = MeasuredCosts.of(profile, data, loaded, metric, preset, seed, progress)
    else:
        costs = TableCosts.of(own, data)

    def features(architectures: Sequence[Architecture]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        return architecture_features(architectures, names, loaded)

    bank = SourceBank.fit(
        features(bank_networks), values[kept], [c.name for c in others], [c.family for c in others], columns=names
    )  # fmt: skip
    learner = FewShotLearner(
        bank, features(candidates), samples, device=own.profile if own else profile.id, metric=metric, choose=choose,
        until_error=until_mape, seed=seed, names=names,
    )  # fmt: skip
    while batch := learner.ask():
        told = costs([candidates[row] for row in batch])
        missing = tuple(candidates[row] for row in batch if candidates[row] not in told)
        if missing:
            measured_keys = tuple(candidates[row].key for row in learner.measured)
            return ToMeasure(target, missing, measured_keys, tuple(learner.steps))
        seen = len(learner.steps)
        learner.tell({row: told[candidates[row]] for row in batch})
        for step in learner.steps[seen:]:
            text = f"expected error {step.error:.1%} [{step.error_lower:.1%}, {step.error_upper:.1%}]"
            progress(Progress("transfer", step.rows, samples, f"{step.rows} networks: {text}", notable=True))
    learned = learner.result()
    used = {candidates[row] for row in learned.measured}
    rest = list(test) or [network for network in networks if network not in used]
    measured = np.array([own.values[network] for network in rest] if own else [])
    prediction = learned.fitted.predictor.predict_features(features(rest)) if len(rest) > 1 else None
    found_scores = None if prediction is None else scores(prediction, measured)
    entry = Catalog(store).save(name or own_name.replace("/", "-"), learned.fitted)
    picture = store / entry.name / f"v{entry.version}" / PICTURE
    write_learning_png(
        learned.steps, f"{own_name} from a bank of {len(bank.devices)} devices", picture, wanted=until_mape,
        found=found_scores.mape if found_scores else None,
    )  # fmt: skip
    if report is not None and prediction is not None:
        write_report(
            LatencyReport.of(
                entry.id, entry.device, entry.metric, rest, prediction, measured, rows_learned=entry.rows,
                curve=learned.steps,
            ),
            report,
        )  # fmt: skip
    return Transferred(
        entry,
        own_name,
        bank.devices,
        len(kept),
        tuple(column.name for column in alike if column.name != own_name),
        learned,
        tuple(candidates[row].key for row in learned.measured),
        found_scores,
        tuple(findings),
        picture,
    )


def learning_rows(found: Transferred) -> list[dict[str, object]]:
    """Returns a table row for each batch of measurements."""
    return [
        {
            "rows": step.rows,
            "expected_error": step.error,
            "interval_95": f"[{step.error_lower:.3f}, {step.error_upper:.3f}]",
            "bank_share": step.bank_share,
        }
        for step in found.learned.steps
    ]


def _column(columns: "Sequence[DeviceColumn]", target: str, metric: str) -> "DeviceColumn":
    found = [column for column in columns if column.name == target]
    found = found or [column for column in columns if target in {column.device, column.profile}]
    if len(found) != 1:
        known = ", ".join(column.name for column in found or columns) or f"none with rows of {metric} to learn from"
        raise InputError(f"the target must be one device of the tables, got {target!r}; they have {known}")
    return found[0]


def _family(target: str, measure: bool, threads: int) -> str:
    """Returns the family of a device that no table tells of."""
    from latency_predictors.device_columns import device_family
    from latency_predictors.devices import get_device

    return device_family(target, get_device(target).environment(threads=threads).cpu if measure else None)
