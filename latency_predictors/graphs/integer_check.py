"""The check that an INT8 file runs as one integer graph; its runtime decides that, so its runtime is asked."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# ONNX operators that move or convert values without computing on them.
_MOVES = {"QuantizeLinear", "DequantizeLinear", "Transpose", "Flatten", "Reshape"}


def float_operators(path: Path) -> list[str]:
    """Returns what keeps an INT8 file from being one integer graph; nothing where all is well.

    Args:
        path: an .onnx or .tflite file made by `build_models`.

    Returns:
        For .onnx, ``operator:node`` of whatever ONNX Runtime computes in float or converts inside the network. For
        .tflite, the float tensors, and the number of parts where XNNPACK cannot run the graph as one.
    """
    return {".onnx": _onnx, ".tflite": _tflite}[path.suffix](path)


def _onnx(path: Path) -> list[str]:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="hwnas-optimize-") as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # it warns that an optimized file fits this machine only
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    outside = {value.name for value in (*graph.input, *graph.output)}

    def is_float(node: onnx.NodeProto) -> bool:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            return outside.isdisjoint((*node.input, *node.output))
        return node.op_type not in _MOVES and not node.op_type.startswith(("QLinear", "QGemm"))

    return [f"{node.op_type}:{node.name}" for node in graph.node if is_float(node)]


def _tflite(path: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    found = [f"float tensor:{tensor['name']}" for tensor in plain.get_tensor_details() if tensor["dtype"] == np.float32]
    delegated = Interpreter(str(path), num_threads=1)
    delegated.allocate_tensors()
    # The one source for how a delegate cut the graph, and without a public name.
    operators: Sequence[dict[str, object]] = delegated._get_ops_details()
    parts = sum(operator["op_name"] == "DELEGATE" for operator in operators)
    return [*found, f"{parts} parts instead of 1 in XNNPACK"] if parts > 1 else found
