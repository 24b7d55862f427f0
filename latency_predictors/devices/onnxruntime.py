"""This machine with ONNX Runtime's CPU provider."""

from latency_predictors.devices.local import LocalDevice


class OnnxRuntimeDevice(LocalDevice):
    """Runs ``.onnx`` files: graph optimisation at its default (all), sequential execution, inputs and outputs bound."""

    name = "local/onnxruntime"
    runtime = "onnxruntime"
    suffix = ".onnx"
