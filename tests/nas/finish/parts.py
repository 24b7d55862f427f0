"""What the tests of finishing share: a small finishing stage and its picks."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from latency_predictors.environment import Environment
from latency_predictors.measurement import DeviceProfile, Measurement
from nas.config import DataConfig, DeviceConfig, FinishConfig, RayConfig, SupernetConfig
from nas.data import ImageData, load_data
from nas.finish import Finishing, Pick
from nas.finish.weights import Distilled, WeightSource
from nas.objectives import Constraint, Value
from search_spaces.space import load_space
from search_spaces.supernet import Supernet, save_supernet

SPACE = load_space("tiny").with_data(image_channels=1, classes=10)
CONFIG = FinishConfig(epochs=5, learning_rate=1e-2, distillation_weight=0.1, calibration_images=64)
DEVICES = {
    "cpu": DeviceConfig(device="local/onnxruntime", precision="int8"),
    "board": DeviceConfig(device="local/litert", precision="fp32"),
}
SERIAL = RayConfig(executor="serial")


def digits() -> ImageData:
    return load_data(DataConfig())


def make_finishing(folder: Path, data: ImageData) -> Finishing:
    """The supernet is not trained: finishing trains what it inherits, and what it inherits does not matter here."""
    supernet = folder / "supernet.safetensors"
    if not supernet.exists():
        save_supernet(Supernet(SPACE, seed=0), supernet)
    return make_stage(Distilled(supernet, data.without_test(), SupernetConfig(), CONFIG, seed=3), data, folder)


def make_stage(weights: WeightSource, data: ImageData, folder: Path) -> Finishing:
    constraints = (Constraint.parse("latency_ms@cpu <= 500"), Constraint.parse("parameters <= 60000"))
    return Finishing(weights, data, CONFIG, DEVICES, constraints, folder / "finish", seed=3, ray=SERIAL)


def make_picks() -> list[Pick]:
    """Two networks: the promise for the first on ``cpu`` is easy to keep, that for the second impossible."""
    accuracy = Value(0.9, "measured", 0.85, 0.95)
    easy, impossible = Value(1.0, "predicted", 1e-9, 400.0), Value(1e-6, "predicted", 0.9e-6, 1.1e-6)
    smallest = SPACE.smallest()
    other = SPACE.mutate(smallest, np.random.default_rng(1), rate=0.3)
    return [
        Pick(architecture, {"accuracy": accuracy, "latency_ms@cpu": latency})
        for architecture, latency in ((smallest, easy), (other, impossible))
    ]


def measurement(latency_ms: float | None, profile: DeviceProfile) -> Measurement:
    """An accepted measurement, or a refused one where there is no latency."""
    return Measurement(
        key="tiny-1", architecture=None, network_hash="0" * 12, profile=profile,
        environment=Environment("a cpu", 2, "x86_64", "Linux", "3.11", "a runtime 1"),
        runtime="a runtime", preset="quick", protocol_version=1, seed=0,
        verdict="accepted" if latency_ms else "refused", reason="" if latency_ms else "it is busy",
        measured_at=datetime.now(UTC), model_bytes=1,
        latency_ms=latency_ms, lower_ms=latency_ms and latency_ms * 0.99, upper_ms=latency_ms and latency_ms * 1.01,
    )  # fmt: skip
