from pathlib import Path

import numpy as np

from nas.finish.export import FILE_KINDS, export_jobs
from search_spaces.network import Network


def test_a_network_is_exported_for_both_runtimes_in_both_precisions(network: Network, tmp_path: Path) -> None:
    calibration = np.zeros((2, 1, network.resolution, network.resolution), np.float32)
    jobs = export_jobs(network, tmp_path, calibration, {"key": "value"})
    assert [(job.path.name, job.runtime, job.precision) for job in jobs] == [
        ("model.onnx", "onnxruntime", "fp32"),
        ("model_int8.onnx", "onnxruntime", "int8"),
        ("model.tflite", "litert", "fp32"),
        ("model_int8.tflite", "litert", "int8"),
    ]
    assert [job.calibration is calibration for job in jobs] == [False, True, False, True]
    assert [kind.device for kind in FILE_KINDS[1:3]] == ["local/onnxruntime", "local/litert"]
