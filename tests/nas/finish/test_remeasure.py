import dataclasses
from pathlib import Path

import pytest

from latency_predictors.devices.base import DeviceError
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.store import MeasurementSet
from nas.config import DeviceConfig, RayConfig
from nas.finish.export import FILE_KINDS
from nas.finish.remeasure import FinishedFile, Target, cost_reports, latency_report, measure_latencies, targets
from nas.finish.report import LatencyReport
from nas.objectives import Constraint, Value
from search_spaces.space import load_space
from tests.nas.finish.parts import measurement

INT8_ONNX = FILE_KINDS[1]
CPU = Target("cpu", DeviceProfile("local/onnxruntime", "int8"))
PREDICTED = Value(1.0, "predicted", 0.8, 1.2)


def row(latency_ms: float | None) -> Measurement:
    return measurement(latency_ms, CPU.profile)


def test_a_file_is_measured_on_every_device_of_the_experiment_that_runs_it() -> None:
    devices = {
        "one": DeviceConfig(device="local/onnxruntime", precision="int8"),
        "two": DeviceConfig(device="local/onnxruntime", precision="int8", threads=2),
        "far": DeviceConfig(device="ssh/pi/onnxruntime", precision="int8"),
        "same_files": DeviceConfig(device="local/openvino", precision="int8"),
        "other_precision": DeviceConfig(device="local/onnxruntime", precision="fp32"),
        "other_runtime": DeviceConfig(device="local/litert", precision="int8"),
    }
    assert targets(INT8_ONNX, devices) == [
        Target("one", DeviceProfile("local/onnxruntime", "int8", 1)),
        Target("two", DeviceProfile("local/onnxruntime", "int8", 2)),
        Target("far", DeviceProfile("ssh/pi/onnxruntime", "int8", 1)),
        Target("same_files", DeviceProfile("local/openvino", "int8", 1)),
    ]


def test_a_file_that_no_device_of_the_experiment_runs_is_measured_here() -> None:
    assert targets(INT8_ONNX, {}) == [Target(None, DeviceProfile("local/onnxruntime", "int8", 1))]


@pytest.mark.parametrize(
    ("latency_ms", "outcome", "inside"),
    [(1.0, "kept", True), (1.2, "kept", True), (1.21, "broken", False), (0.5, "kept", False),
     (None, "not measured", None)],
)  # fmt: skip
def test_a_promise_is_kept_up_to_the_upper_end_of_the_prediction(
    latency_ms: float | None, outcome: str, inside: bool | None
) -> None:
    report = latency_report(CPU, row(latency_ms), PREDICTED, [])
    assert (report.outcome, report.inside_interval) == (outcome, inside)
    assert report.measured_ms == latency_ms


def test_a_promise_within_the_prediction_is_broken_by_a_constraint_on_that_device_only() -> None:
    constraints = [Constraint.parse("latency_ms@cpu <= 1.05"), Constraint.parse("latency_ms@board <= 0.1")]
    report = latency_report(CPU, row(1.1), PREDICTED, constraints)
    assert report.outcome == "broken"
    assert report.constraints == ("latency_ms@cpu <= 1.05",)
    assert latency_report(CPU, row(1.04), PREDICTED, constraints).outcome == "kept"


def test_without_a_prediction_nothing_is_kept_or_broken() -> None:
    report = latency_report(CPU, row(1.0), None, [])
    assert (report.outcome, report.inside_interval, report.predicted_ms) == ("no prediction", None, None)
    assert latency_report(CPU, row(None), None, []).outcome == "not measured"


def test_energy_and_memory_that_the_search_promised_are_held_against_what_came_with_the_latency() -> None:
    expected = {"latency_ms@cpu": PREDICTED, "peak_memory_mb@cpu": PREDICTED, "energy_mj@cpu": PREDICTED}
    measured = dataclasses.replace(row(1.0), peak_memory_mb=1.1)
    memory, energy = sorted(cost_reports(CPU, measured, expected, []), key=lambda cost: cost.metric, reverse=True)
    assert (memory.metric, memory.measured, memory.outcome) == ("peak_memory_mb", 1.1, "kept")
    assert memory.inside_interval
    assert (energy.metric, energy.measured, energy.outcome) == ("energy_mj", None, "not measured")
    bound = Constraint.parse("peak_memory_mb@cpu <= 1.05")
    assert [cost.outcome for cost in cost_reports(CPU, measured, expected, [bound])] == ["not measured", "broken"]
    assert not cost_reports(CPU, measured, {"latency_ms@cpu": PREDICTED}, [])


def test_a_device_out_of_reach_stops_finishing_only_where_its_search_needed_it(tmp_path: Path) -> None:
    kind = FILE_KINDS[3]
    path = tmp_path / kind.name
    path.write_bytes(b"a network")
    file = FinishedFile(path, kind, load_space("tiny").smallest(), {"latency_ms@phone": PREDICTED})

    def measured(predictor: tuple[str, ...]) -> LatencyReport:
        phone = DeviceConfig(device="adb/NOWHERE/litert", precision="int8", predictor=predictor)
        ((report,),) = measure_latencies(
            [file], {"phone": phone}, [], ray=RayConfig(), preset="quick", seed=0,
            store=MeasurementSet(tmp_path / "m.parquet"), progress=lambda *_: None,
        ).values()  # fmt: skip
        return report

    with pytest.raises(DeviceError, match="adb") as error:
        measured(())
    report = measured(("predictors/phone/v1",))
    assert (report.outcome, report.measured_ms, report.inside_interval) == ("not measured", None, None)
    assert (report.verdict, report.reason, report.processor) == ("refused", str(error.value), "")
    assert report.predicted_ms == PREDICTED.value


def test_the_reason_of_a_refused_measurement_is_passed_on() -> None:
    report = latency_report(CPU, row(None), PREDICTED, [])
    assert (report.verdict, report.reason, report.measured_ms) == ("refused", "it is busy", None)
