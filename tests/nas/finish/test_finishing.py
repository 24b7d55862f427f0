import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from latency_predictors.graphs.model_file import ModelJob, build_models
from latency_predictors.graphs.tflite_graph import ConversionError
from nas.config import DeviceConfig
from nas.data import ImageData
from nas.errors import InputError
from nas.finish import Pick, finishing
from nas.finish.export import FILE_KINDS
from nas.finish.remeasure import FinishedFile, latency_report, targets
from nas.finish.report import LatencyReport
from nas.finish.weights import Distilled
from nas.objectives import Constraint
from search_spaces.checksum import read_json, write_json
from search_spaces.network import load_network
from search_spaces.space import load_space
from tests.nas.finish.conftest import Finished
from tests.nas.finish.parts import make_finishing, make_picks, measurement


@pytest.mark.slow
def test_a_stage_killed_before_its_reports_leaves_none_and_does_not_train_again(finished: Finished) -> None:
    assert finished.left_by_kill == {"report.json": 0, "checkpoints": 2, "*.onnx": 3, "*.tflite": 0}
    texts = [progress.text for progress in finished.progress]
    assert not any(text.startswith("training") for text in texts)
    assert any(text.startswith("measuring") for text in texts)
    assert len(list(finished.finishing.folder.glob("*/report.json"))) == 2
    assert not list(finished.finishing.folder.glob("*/checkpoints"))


@pytest.mark.slow
def test_every_pick_becomes_four_checked_files_with_their_documents(finished: Finished) -> None:
    assert [bundle.report.key for bundle in finished.bundles] == [pick.architecture.key for pick in make_picks()]
    for bundle in finished.bundles:
        assert bundle.report.refused == ()
        assert [file.name for file in bundle.report.files] == [kind.name for kind in FILE_KINDS]
        assert {path.name for path in bundle.folder.iterdir()} == {
            *(kind.name for kind in FILE_KINDS), "report.json", "MODEL_CARD.md", "network.safetensors",
        }  # fmt: skip


@pytest.mark.slow
def test_every_file_is_verified_on_the_whole_test_split(finished: Finished) -> None:
    test_images = len(finished.finishing.data.test)
    for bundle in finished.bundles:
        assert bundle.report.network.test_accuracy > 0.7
        for file in bundle.report.files:
            found = file.verification
            assert found.images == test_images
            assert found.torch_accuracy == bundle.report.network.test_accuracy
            assert found.max_abs_difference is not None
            if file.precision == "fp32":
                assert found.accuracy == found.torch_accuracy
                assert found.max_abs_difference < 1e-4
            else:
                assert found.accuracy >= found.torch_accuracy - 0.02
                assert found.max_abs_difference > 1e-3


@pytest.mark.slow
def test_every_file_is_measured_and_held_against_the_promise(finished: Finished) -> None:
    devices = [[latency.device for latency in file.latencies] for file in finished.bundles[0].report.files]
    assert devices == [[None], ["cpu"], ["board"], [None]]
    easy, impossible = (bundle.report.files[1].latencies[0] for bundle in finished.bundles)
    # On a busy machine a measurement may be refused; it must then say so.
    assert easy.outcome in {"kept", "not measured"}
    assert impossible.outcome in {"broken", "not measured"}
    for latency in (easy, impossible):
        assert (latency.outcome == "not measured") == (latency.measured_ms is None) == (latency.verdict == "refused")
        assert latency.constraints == ("latency_ms@cpu <= 500",)
    assert finished.bundles[0].report.files[2].latencies[0].outcome in {"no prediction", "not measured"}


@pytest.mark.slow
def test_the_weights_of_a_bundle_are_those_of_its_files(finished: Finished) -> None:
    bundle = finished.bundles[0]
    network = load_network(bundle.folder / bundle.report.weights.name)
    assert network.resolution == bundle.report.network.resolution
    model = onnx.load(bundle.folder / "model.onnx")
    weight = next(numpy_helper.to_array(x) for x in model.graph.initializer if x.name == "classifier.weight")
    np.testing.assert_array_equal(weight, network.blocks["classifier"].linear.weight.detach().numpy())


def measure_at_once(
    files: Sequence[FinishedFile], devices: Mapping[str, DeviceConfig], constraints: Sequence[Constraint], **_: object
) -> dict[Path, list[LatencyReport]]:
    """Stands for an idle machine: everything takes a quarter of a millisecond and nothing is refused."""
    return {
        file.path: [
            latency_report(target, measurement(0.25, target.profile), file.expected.get(target.objective or ""), ())
            for target in targets(file.kind, devices)
        ]
        for file in files
    }


@pytest.fixture
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "measure_latencies", measure_at_once)


def without_a_latency(report: Path) -> None:
    content = read_json(report)
    content["files"][0]["latencies"][0] |= {"outcome": "not measured", "measured_ms": None, "verdict": "refused"}
    write_json(report, content)


@pytest.mark.slow
@pytest.mark.usefixtures("idle_machine")
def test_only_what_a_busy_machine_refused_to_measure_is_done_again(finished: Finished, tmp_path: Path) -> None:
    stage = finished.copy(tmp_path)
    without_a_latency(stage.folder / finished.bundles[0].report.key / "report.json")
    before = {path: path.stat().st_mtime_ns for path in stage.folder.glob("*/[mn][oe]*")}
    assert len(before) == 10
    texts: list[str] = []
    bundle, _ = stage.finish(make_picks(), lambda progress: texts.append(progress.text))
    assert texts == ["2 networks finished"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert bundle.report.files[0].latencies[0].measured_ms == 0.25
    original = finished.bundles[0].report
    assert (bundle.report.network, bundle.report.refused) == (original.network, original.refused)
    assert [file.verification for file in bundle.report.files] == [file.verification for file in original.files]


@pytest.mark.slow
@pytest.mark.usefixtures("idle_machine")
def test_measured_bundles_are_left_alone(finished: Finished, tmp_path: Path) -> None:
    stage = finished.copy(tmp_path)
    once = stage.finish(make_picks())
    before = {path: path.stat().st_mtime_ns for path in stage.folder.rglob("*")}
    assert stage.finish(make_picks()) == once
    assert {path: path.stat().st_mtime_ns for path in stage.folder.rglob("*")} == before


def damage_and_lose(jobs: Sequence[ModelJob], told: Callable[[int, int], None]) -> None:
    """Exports, but scales one weight of model.onnx and cannot convert to TFLite."""
    build_models([job for job in jobs if job.runtime == "onnxruntime"], told)
    model = onnx.load(jobs[0].path)
    weight = next(value for value in model.graph.initializer if value.name == "classifier.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.05), weight.name))
    onnx.save(model, jobs[0].path)
    reasons = {job.path: "ValueError: out of luck" for job in jobs if job.runtime == "litert"}
    raise ConversionError(reasons, len(reasons))


@pytest.mark.slow
@pytest.mark.usefixtures("idle_machine")
def test_a_damaged_bundle_is_made_again_and_files_that_fail_are_refused(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = finished.copy(tmp_path)
    stage.finish(make_picks())
    folders = [stage.folder / bundle.report.key for bundle in finished.bundles]
    with (folders[0] / "model.tflite").open("ab") as file:
        file.write(b"\0")
    untouched = (folders[1] / "report.json").read_bytes()
    monkeypatch.setattr(finishing, "build_models", damage_and_lose)
    notable: list[str] = []
    redone, kept = stage.finish(make_picks(), lambda p: notable.append(p.text) if p.notable else None)
    assert kept.report.key == finished.bundles[1].report.key
    assert (folders[1] / "report.json").read_bytes() == untouched
    assert [file.name for file in redone.report.files] == ["model_int8.onnx"]
    reasons = {refused.name: refused.reason for refused in redone.report.refused}
    assert reasons["model.onnx"].startswith("its logits differ from torch's by up to ")
    assert reasons["model.tflite"] == "it could not be converted: ValueError: out of luck"
    assert len(notable) == 3
    assert {path.name for path in folders[0].glob("model*")} == {"model_int8.onnx"}
    card = (folders[0] / "MODEL_CARD.md").read_text()
    assert "**Refused: model.onnx**, its logits differ from torch's" in card
    assert json.loads((folders[0] / "report.json").read_text())["refused"][0]["verification"]["images"] == 359
    assert [row["outcome"] for row in redone.rows()[1:]] == [f"refused: {reason}" for reason in reasons.values()]


def build_without_tflite(jobs: Sequence[ModelJob], told: Callable[[int, int], None]) -> None:
    """Exports, but what should be TFLite files is not."""
    build_models([job for job in jobs if job.runtime == "onnxruntime"], told)
    for job in jobs:
        if job.runtime == "litert":
            job.path.write_bytes(b"no model at all")


@pytest.mark.slow
@pytest.mark.usefixtures("idle_machine")
def test_files_that_their_runtime_cannot_run_are_refused_and_the_others_go_on(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = finished.copy(tmp_path)
    folder = stage.folder / finished.bundles[0].report.key
    (folder / "report.json").unlink()
    monkeypatch.setattr(finishing, "build_models", build_without_tflite)
    (redone,) = stage.finish(make_picks()[:1])
    assert {file.name for file in redone.report.files} == {"model.onnx", "model_int8.onnx"}
    assert [refused.name for refused in redone.report.refused] == ["model.tflite", "model_int8.tflite"]
    assert all(
        refused.reason.startswith("its runtime cannot run it: ValueError: ") for refused in redone.report.refused
    )
    assert {path.name for path in folder.glob("model*")} == {"model.onnx", "model_int8.onnx"}


@pytest.mark.slow
def test_a_bundle_made_with_another_seed_is_made_again(finished: Finished, tmp_path: Path) -> None:
    stage = finished.copy(tmp_path)
    assert isinstance(stage.weights, Distilled)
    stage = replace(stage, seed=4, weights=replace(stage.weights, supernet=tmp_path / "missing.safetensors"))
    with pytest.raises(InputError, match=r"missing\.safetensors"):
        stage.finish(make_picks())
    assert all((stage.folder / bundle.report.key / "model.onnx").exists() for bundle in finished.bundles)


def test_an_architecture_of_another_space_is_refused(data: ImageData, tmp_path: Path) -> None:
    other = load_space("mobilenet_v3").smallest()
    with pytest.raises(InputError, match="does not contain 'mobilenet_v3:"):
        make_finishing(tmp_path, data).finish([Pick(other, {})])
