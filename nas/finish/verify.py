"""The gate between torch and the devices: every exported file is run on the test split and compared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latency_predictors.graphs.integer_check import float_operators
from latency_predictors.graphs.model_file import run_file
from nas.data import Split
from nas.data.stored import Images
from nas.finish.report import Verification
from nas.search.results import wilson_interval
from nas.training.accuracy import batches
from search_spaces.cost import Precision
from search_spaces.network import Network

MAX_FP32_DIFFERENCE = 1e-3
"""Of an FP32 file's logits, in standard deviations of torch's. Correct files differ by about 1e-6, the same sums in
another order; a file within this bound changes an answer only where torch's two best logits are a tie."""

Prepare = Callable[[Images], NDArray[np.float32]]
"""Maps images ``(n, c, h, w)`` uint8 to inputs ``(n, c, s, s)``; see `nas.data.inputs`."""

_CHUNK = 2048  # images; inputs take four times the memory of what is stored, and often more


def torch_logits(network: Network, images: Images, prepare: Prepare) -> NDArray[np.float32]:
    """Returns the logits ``(n, classes)`` of a network in evaluation mode."""

    @torch.inference_mode()
    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return torch.cat([network(part) for part in batches(torch.from_numpy(inputs))]).numpy()

    return _logits(run, images, prepare)


def _logits(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: Images, prepare: Prepare
) -> NDArray[np.float32]:
    return np.concatenate([run(prepare(images[start : start + _CHUNK])) for start in range(0, len(images), _CHUNK)])


def top1_accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns the share of images ``(n,)`` whose greatest logit is that of their label."""
    return float((logits.argmax(1) == labels).mean())


def verify_file(
    path: Path, precision: Precision, test: Split, prepare: Prepare, reference: NDArray[np.float32]
) -> Verification:
    """Runs a file with its own runtime and compares it with torch.

    Args:
        path: the file.
        precision: an INT8 file is also asked whether it is computed in integers.
        test: the whole test split.
        prepare: preprocesses its images.
        reference: ``(n, classes)``, torch's logits for the same images.

    Raises:
        UnrunnableFileError: the runtime cannot load or run the file.
    """
    labels = test.labels
    logits = _logits(lambda inputs: run_file(path, inputs), test.images, prepare)
    difference = np.abs(logits - reference)
    finite = bool(np.isfinite(logits).all())
    accuracy = top1_accuracy(logits, labels)
    lower, upper = wilson_interval(accuracy, len(labels))
    return Verification(
        images=len(labels),
        accuracy=accuracy,
        accuracy_lower=max(0.0, lower),
        accuracy_upper=min(1.0, upper),
        torch_accuracy=top1_accuracy(reference, labels),
        top1_agreement=float((logits.argmax(1) == reference.argmax(1)).mean()),
        max_abs_difference=float(difference.max()) if finite else None,
        mean_abs_difference=float(difference.mean()) if finite else None,
        logit_scale=float(reference.std()),
        float_operators=tuple(float_operators(path)) if precision == "int8" else (),
    )


def refusal(verification: Verification, precision: Precision, max_int8_accuracy_drop: float) -> str:
    """Returns why a file must not be handed over; empty where it may.

    Args:
        verification: of the file.
        precision: FP32 files must compute torch's logits, INT8 files keep its accuracy and stay in integers.
        max_int8_accuracy_drop: test accuracy that an INT8 file may lose, as a fraction.
    """
    if verification.max_abs_difference is None:
        return "it computes logits that are not finite numbers"
    if precision == "fp32":
        tolerance = MAX_FP32_DIFFERENCE * verification.logit_scale
        if verification.max_abs_difference <= tolerance:
            return ""
        return (
            f"its logits differ from torch's by up to {verification.max_abs_difference:.3g}, at most {tolerance:.3g} "
            f"is allowed; top-1 agreement {verification.top1_agreement:.2%}"
        )
    if verification.float_operators:
        first, *others = verification.float_operators
        return f"it is not one integer graph: {first}" + (f" and {len(others)} more" if others else "")
    drop = verification.torch_accuracy - verification.accuracy
    # Accuracies are whole images: what is allowed must not depend on rounding.
    if drop * verification.images > max_int8_accuracy_drop * verification.images + 1e-6:
        return (
            f"it loses {drop:.2%} of test accuracy ({verification.torch_accuracy:.2%} in torch, "
            f"{verification.accuracy:.2%} in the file), at most {max_int8_accuracy_drop:.2%} is allowed"
        )
    return ""
