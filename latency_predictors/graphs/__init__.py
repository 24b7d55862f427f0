"""Graphs: networks as ONNX and TFLite files, built from their layers and folded weights, and run by their runtimes."""
