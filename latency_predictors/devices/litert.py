"""This machine with LiteRT."""

from latency_predictors.devices.local import LocalDevice


class LitertDevice(LocalDevice):
    """Runs ``.tflite`` files with LiteRT's default delegate for processors, XNNPACK."""

    name = "local/litert"
    runtime = "litert"
    suffix = ".tflite"
