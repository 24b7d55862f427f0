"""Measurements for tests."""

from datetime import UTC, datetime

from latency_predictors.environment import Environment
from latency_predictors.measurement import DeviceProfile, Measurement
from search_spaces.architecture import Architecture

ENVIRONMENT = Environment("a processor", 2, "x86_64", "Linux 6", "3.11.7", "ONNX Runtime 1.32.0")


def make_measurement(kernel: int = 3) -> Measurement:
    """Returns an accepted measurement; each kernel is another network."""
    architecture = Architecture("tiny", (("resolution", 16), ("stage1.kernel", kernel)))
    return Measurement(
        key=architecture.key,
        architecture=architecture,
        network_hash=f"{kernel:012x}",
        profile=DeviceProfile("local/onnxruntime", "int8", 1),
        environment=ENVIRONMENT,
        runtime="onnxruntime",
        preset="quick",
        protocol_version=1,
        seed=0,
        verdict="accepted",
        reason="",
        measured_at=datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC),
        model_bytes=31000,
        latency_ms=1.0,
        lower_ms=0.99,
        upper_ms=1.01,
        p50_ms=1.001,
        p90_ms=1.1,
        block_medians_ms=(1.0, 1.01, 0.99, 1.0, 1.0),
        first_inference_ms=3.0,
        load_ms=8.0,
        peak_memory_mb=2.5,
        quiet_share=0.97,
        reference_ms=0.05,
    )


def make_refused() -> Measurement:
    """Returns a refused measurement of a file of unknown origin, without a figure."""
    return Measurement(
        key="model.onnx",
        architecture=None,
        network_hash="0123456789ab",
        profile=DeviceProfile("local/onnxruntime", "fp32", 2),
        environment=ENVIRONMENT,
        runtime="onnxruntime",
        preset="standard",
        protocol_version=1,
        seed=3,
        verdict="refused",
        reason="it could not be run",
        measured_at=datetime(2026, 3, 1, tzinfo=UTC),
        model_bytes=12,
    )
