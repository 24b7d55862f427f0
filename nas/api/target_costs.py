"""What networks cost on a device that is being learned: as its table tells, or measured now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nas.errors import InputError
from nas.progress import Progress, ProgressListener
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from latency_predictors.device_columns import DeviceColumn
    from latency_predictors.few_shot import Cost
    from latency_predictors.measurement import DeviceProfile, Metric

TRIES = 2
"""A network whose rows were refused so often is replaced by another."""


@dataclass(frozen=True)
class TableCosts:
    """Costs that a table tells.

    Attributes:
        column: of the device; None where there is no table yet.
        refused: how often each network was measured in vain, by key.
    """

    column: "DeviceColumn | None"
    refused: Counter[str]

    @classmethod
    def of(cls, column: "DeviceColumn | None", data: Path | None) -> Self:
        """Returns them for a device whose table is a file, or is among the sources."""
        return cls(column, _refusals(data, column.profile) if column and data else Counter())

    def __call__(self, networks: Sequence[Architecture]) -> "dict[Architecture, Cost | None]":
        """Returns what is known of networks; None where one cannot be measured, nothing where it has yet to be."""
        from latency_predictors.few_shot import Cost

        costs: dict[Architecture, Cost | None] = {
            network: None for network in networks if self.refused[network.key] >= TRIES
        }
        if self.column:
            values, noise = self.column.values, self.column.noise
            costs |= {network: Cost(values[network], noise[network]) for network in networks if network in values}
        return costs


@dataclass
class MeasuredCosts:
    """Costs that are measured now; rows that an earlier start measured are not measured again.

    Attributes:
        profile: of the device.
        data: measurement set where rows are kept.
        spaces: of the networks by name.
        metric: wanted.
        preset: how carefully.
        seed: of weights and order.
        progress: told where it stands.
        refused: how often each network was measured in vain, by key.
        failed: networks that told nothing since the start.
    """

    profile: "DeviceProfile"
    data: Path
    spaces: Mapping[str, SearchSpace]
    metric: "Metric"
    preset: str
    seed: int
    progress: ProgressListener
    refused: Counter[str]
    failed: int = 0

    @classmethod
    def of(
        cls,
        profile: "DeviceProfile",
        data: Path | None,
        spaces: Mapping[str, SearchSpace],
        metric: "Metric",
        preset: str,
        seed: int,
        progress: ProgressListener,
    ) -> Self:
        """Returns them for a device.

        Raises:
            InputError: no measurement set is named, nothing can be built, or the preset does not measure the metric.
        """
        from latency_predictors.preset import get_preset

        if data is None:
            raise InputError("what is measured is added to a measurement set: name one with --data FRESH.parquet")
        if not spaces:
            raise InputError("networks of the sources cannot be built here: measure them and give the rows with --data")
        if metric == "energy_mj" and not get_preset(preset).energy_seconds:
            raise InputError(f"the preset {preset} measures no energy: give --preset energy")
        return cls(profile, data, spaces, metric, preset, seed, progress, _refusals(data, profile.id))

    def __call__(self, networks: Sequence[Architecture]) -> "dict[Architecture, Cost | None]":
        """Returns what networks cost, measured now or by an earlier start; None where one cannot be measured.

        Raises:
            DeviceError: the device cannot measure, or too many networks cannot be measured on it.
        """
        from latency_predictors.base import LEAST_ROWS
        from latency_predictors.devices.base import DeviceError
        from latency_predictors.few_shot import Cost
        from latency_predictors.session import measure_networks
        from latency_predictors.store import MeasurementSet

        costs: dict[Architecture, Cost | None] = {}
        reason = ""
        left = [one for one in networks if self.refused[one.key] < TRIES]
        if not left:
            return dict.fromkeys(networks)
        rows = measure_networks(
            [(one, self.spaces[one.space].layers(one)) for one in left], self.profile, preset=self.preset,
            seed=self.seed, store=MeasurementSet(self.data),
            progress=lambda done, total, text: self.progress(Progress("measure", done, total, text)),
        )  # fmt: skip
        for one, row in zip(left, rows, strict=True):
            value = getattr(row, self.metric)
            if row.usable and value:
                costs[one] = Cost(value, row.standard_error if self.metric == "latency_ms" else 0.0)
            else:
                reason = row.reason or f"it does not tell {self.metric}"
                self.failed += 1
        if self.failed >= LEAST_ROWS:
            raise DeviceError(
                f"{self.failed} networks could not be measured on {self.profile.id}, the last because {reason}"
            )
        return dict.fromkeys(networks) | costs


def _refusals(data: Path, profile: str) -> Counter[str]:
    """Returns how often each network was measured in vain, by key; none for a table that has no verdicts."""
    from latency_predictors.measurement import DeviceProfile
    from latency_predictors.protocol import NOT_RUN
    from latency_predictors.table_file import read_table

    table = read_table(data) if data.exists() else None
    if table is None or not {"arch_id", "verdict", "precision", "threads"} <= set(table.column_names):
        return Counter()
    usable, tries = set(), Counter[str]()
    for row in table.to_pylist():
        if DeviceProfile(row["device"], row["precision"], row["threads"]).id != profile:
            continue
        if row["verdict"] != "refused":
            usable.add(row["arch_id"])
        else:
            tries[row["arch_id"]] += TRIES if (row.get("reason") or "").startswith(NOT_RUN) else 1
    return Counter({key: count for key, count in tries.items() if key not in usable})
