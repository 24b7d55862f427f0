"""The documents of a bundle: report.json and MODEL_CARD.md."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from latency_predictors.graphs.model_file import tensor_formats
from nas.data import ImageData, data_card
from nas.finish.bundle import CARD, REPORT, WEIGHTS, stored
from nas.finish.export import FILE_KINDS, FileKind
from nas.finish.model_card import model_card
from nas.finish.report import (
    Expectation,
    FileReport,
    FinishReport,
    NetworkReport,
    Preprocessing,
    RefusedFile,
    Setting,
    TensorReport,
)
from nas.finish.verify import top1_accuracy, torch_logits
from nas.finish.work import Pick, Work
from nas.objectives import Objective
from search_spaces.atomic import write_text
from search_spaces.checksum import write_json
from search_spaces.cost import network_cost

PACKAGES = ("hwnas", "torch", "onnx", "onnxruntime", "tensorflow", "ai-edge-litert", "numpy")


def write_documents(
    work: Work, data: ImageData, training: Mapping[str, Setting], seeds: Mapping[str, int]
) -> FinishReport:
    """Writes the model card, then the report, which makes the bundle whole.

    Args:
        work: verified and measured, its weights written.
        data: with the test split.
        training: how the weights were made.
        seeds: by purpose.
    """
    network, expected, preprocessing = _network(work, data), _expectations(work.pick), _preprocessing(work, data)
    files = tuple(_file(work, kind) for kind in work.passed_kinds)
    refused = tuple(_refused(work, kind) for kind in FILE_KINDS if kind.name in work.refused)
    environment = _environment()
    card = model_card(
        key=work.key,
        network=network,
        expected=expected,
        preprocessing=preprocessing,
        training=training,
        files=files,
        refused=refused,
        data=data,
        environment=environment,
    )
    write_text(work.folder / CARD, card)
    report = FinishReport(
        identity=work.identity,
        key=work.key,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        network=network,
        expected=expected,
        preprocessing=preprocessing,
        class_names=data.class_names,
        training=dict(training),
        data=data_card(data),
        splits={
            "train": "weights, batch-norm statistics, INT8 ranges",
            "validation": "selection",
            "test": "read by finishing only, for the figures of this report",
        },
        seeds=dict(seeds),
        files=files,
        refused=refused,
        weights=stored(work.folder / WEIGHTS),
        card=stored(work.folder / CARD),
        environment=environment,
    )
    write_json(work.folder / REPORT, report.model_dump(mode="json"))
    return report


def _network(work: Work, data: ImageData) -> NetworkReport:
    logits = torch_logits(work.network, data.validation.images, work.prepare)
    cost = network_cost(work.network.layers)
    return NetworkReport(
        architecture=work.pick.architecture.to_json(),
        text=work.pick.architecture.text,
        resolution=work.network.resolution,
        macs=cost.macs,
        parameters=cost.parameters,
        validation_accuracy=top1_accuracy(logits, data.validation.labels),
        test_accuracy=work.test_accuracy,
    )


def _preprocessing(work: Work, data: ImageData) -> Preprocessing:
    side = work.network.resolution
    colour = "grey" if data.image_channels == 1 else "RGB"
    return Preprocessing(
        resolution=side,
        mean=data.mean,
        std=data.std,
        steps=(
            f"Decode the image to {colour}, 8 bits a channel, and divide by 255.",
            f"Resize it to {side}x{side} pixels, stretching what is not square: bilinear, antialiased (where the image "
            "shrinks the triangle filter widens by the same factor; Pillow's `BILINEAR`, PyTorch's "
            "`interpolate(mode='bilinear', antialias=True)`); an image of that size stays as it is.",
            f"Per channel subtract {list(data.mean)} and divide by {list(data.std)}.",
        ),
    )


def _expectations(pick: Pick) -> dict[str, Expectation]:
    return {
        name: Expectation(
            value=value.value,
            unit=Objective.parse(name).unit,
            source=value.source,
            lower=value.lower,
            upper=value.upper,
        )
        for name, value in pick.expected.items()
    }


def _file(work: Work, kind: FileKind) -> FileReport:
    path = work.folder / kind.name
    image, logits = (TensorReport(**asdict(tensor)) for tensor in tensor_formats(path))
    return FileReport(
        **stored(path).model_dump(),
        runtime=kind.runtime,
        precision=kind.precision,
        image=image,
        logits=logits,
        verification=work.passed[kind.name],
        latencies=tuple(work.latencies[path]),
    )


def _refused(work: Work, kind: FileKind) -> RefusedFile:
    refusal = work.refused[kind.name]
    return RefusedFile(
        name=kind.name,
        runtime=kind.runtime,
        precision=kind.precision,
        reason=refusal.reason,
        verification=refusal.verification,
    )


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        **{package: version(package) for package in PACKAGES},
    }
