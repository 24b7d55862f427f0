"""This machine with OpenVINO's CPU plugin."""

from latency_predictors.devices.local import LocalDevice


class OpenVinoDevice(LocalDevice):
    """Runs ``.onnx`` files: one stream, the latency hint, FP32 files in FP32 also where the CPU has 16-bit units."""

    name = "local/openvino"
    runtime = "openvino"
    suffix = ".onnx"

    def _mend(self) -> str:
        return "; `pip install 'hwnas[openvino]'` brings it"
