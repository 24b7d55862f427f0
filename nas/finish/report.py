"""report.json: everything that is known about a finished network and its files, as typed values."""

from typing import Annotated, Literal

from pydantic import Field

from latency_predictors.graphs.model_file import Runtime
from latency_predictors.statistics import Verdict
from nas.objectives import Source
from search_spaces.cost import Precision
from search_spaces.typed_yaml import FileModel

FORMAT: Literal[1] = 1
"""Version of report.json; another one is refused by name."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]

Setting = str | int | float | bool | None
"""A JSON value that is no list and no object."""

Outcome = Literal["kept", "broken", "no prediction", "not measured"]
"""Whether a file is as fast as the search promised."""


class StoredFile(FileModel):
    """A file of a bundle.

    Attributes:
        name: in the bundle's folder.
        bytes: its size.
        sha256: of its content.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+\.[a-z]+$")]
    bytes: int
    sha256: Sha256


class TensorReport(FileModel):
    """What a file takes or gives; see `latency_predictors.graphs.model_file.TensorFormat`."""

    name: str
    layout: Literal["NCHW", "NHWC", "NC"]
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class Verification(FileModel):
    """A file, run by its own runtime on the whole test split, against torch.

    Attributes:
        images: of the test split.
        accuracy: of the file.
        accuracy_lower: end of the 95 % Wilson interval.
        accuracy_upper: end of the 95 % Wilson interval.
        torch_accuracy: of the network that the file was made from.
        top1_agreement: share of images for which file and torch have the same greatest logit.
        max_abs_difference: of a logit; null where the file gave a value that is not finite.
        mean_abs_difference: of a logit; null as above.
        logit_scale: standard deviation of torch's logits, what differences are held against.
        float_operators: of an INT8 file, what is not computed in integers.
    """

    images: int
    accuracy: Share
    accuracy_lower: Share
    accuracy_upper: Share
    torch_accuracy: Share
    top1_agreement: Share
    max_abs_difference: float | None
    mean_abs_difference: float | None
    logit_scale: float
    float_operators: tuple[str, ...] = ()


class CostReport(FileModel):
    """Energy or memory of a file on a device, promised and measured, in the unit that the metric's name ends with.

    Attributes:
        metric: such as ``energy_mj``.
        predicted: by the search.
        predicted_lower: lower end of the prediction's 90 % interval.
        predicted_upper: upper end of the prediction's 90 % interval.
        constraints: the experiment's bounds on it.
        measured: beside the latency; null where that was refused or the device does not tell it.
        outcome: as of the latency.
        inside_interval: as of the latency.
    """

    metric: str
    predicted: float
    predicted_lower: float | None
    predicted_upper: float | None
    constraints: tuple[str, ...]
    measured: float | None
    outcome: Outcome
    inside_interval: bool | None


class LatencyReport(FileModel):
    """A file's latency on a device, promised and measured; milliseconds for one image.

    Attributes:
        device: its name in the experiment; null for one that the experiment does not name.
        profile: device, precision and threads.
        predicted_ms: by the search; null where no predictor is known for the device.
        predicted_lower_ms: lower end of the prediction's 90 % interval.
        predicted_upper_ms: upper end of the prediction's 90 % interval.
        constraints: the experiment's bounds on this latency.
        processor: that it was measured on; empty where the device could not be reached.
        runtime_version: that it was measured with; empty likewise.
        measured_ms: null where the measurement was refused, or the device could not be reached.
        measured_lower_ms: lower end of the measurement's 95 % interval.
        measured_upper_ms: upper end of the measurement's 95 % interval.
        verdict: on the measurement.
        reason: why the measurement is not accepted; empty where it is.
        outcome: kept where the measured latency is at most the prediction's upper end and within every constraint.
        inside_interval: whether the measured latency lies in the prediction's interval; null where either is missing.
        other_costs: energy and memory, where the search predicted them.
    """

    device: str | None
    profile: str
    predicted_ms: float | None
    predicted_lower_ms: float | None
    predicted_upper_ms: float | None
    constraints: tuple[str, ...]
    processor: str
    runtime_version: str
    measured_ms: float | None
    measured_lower_ms: float | None
    measured_upper_ms: float | None
    verdict: Verdict
    reason: str
    outcome: Outcome
    inside_interval: bool | None
    other_costs: tuple[CostReport, ...] = ()


class FileReport(StoredFile):
    """A file that may be shipped.

    Attributes:
        runtime: that runs it.
        precision: of weights and feature maps.
        image: its input.
        logits: its output.
        verification: on the test split.
        latencies: on each device.
    """

    runtime: Runtime
    precision: Precision
    image: TensorReport
    logits: TensorReport
    verification: Verification
    latencies: tuple[LatencyReport, ...] = ()


class RefusedFile(FileModel):
    """A file that was made, or should have been, and is not handed over.

    Attributes:
        name: that it would have had.
        runtime: that would run it.
        precision: of weights and feature maps.
        reason: in words.
        verification: null where the file could not be made or run.
    """

    name: str
    runtime: Runtime
    precision: Precision
    reason: str
    verification: Verification | None


class NetworkReport(FileModel):
    """The network itself.

    Attributes:
        architecture: the JSON form of the architecture.
        text: the short form.
        resolution: side of the input image in pixels.
        macs: multiply-accumulates for one image.
        parameters: trainable values.
        validation_accuracy: of torch, after finishing.
        test_accuracy: of torch, after finishing.
    """

    architecture: str
    text: str
    resolution: int
    macs: int
    parameters: int
    validation_accuracy: Share
    test_accuracy: Share


class Expectation(FileModel):
    """What the search knew of a metric before finishing; see `nas.objectives.Value`."""

    value: float
    unit: str
    source: Source
    lower: float | None
    upper: float | None


class Preprocessing(FileModel):
    """How an image becomes the network's input; what `nas.data.inputs` does.

    Attributes:
        resolution: side in pixels that images are resized to.
        mean: per channel, subtracted, on the 0..1 scale.
        std: per channel, divided by.
        steps: the same in words, in order.
    """

    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    steps: tuple[str, ...]


class FinishReport(FileModel):
    """The whole of report.json.

    Attributes:
        format: version of this file format.
        identity: SHA-256 of everything the bundle was made from; another one means it must be made again.
        key: of the architecture.
        finished_at: UTC, ISO 8601.
        network: what was finished.
        expected: what the search knew, by objective name.
        preprocessing: of images.
        class_names: in the order of the logits.
        training: how weights were made, by setting.
        data: the data card.
        splits: what each split was used for.
        seeds: by purpose.
        files: that passed.
        refused: files that did not.
        weights: of the torch network.
        card: the model card.
        environment: versions of what made the bundle.
    """

    format: Literal[1] = FORMAT
    identity: Sha256
    key: str
    finished_at: str
    network: NetworkReport
    expected: dict[str, Expectation]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    training: dict[str, Setting]
    data: dict[str, object]
    splits: dict[str, str]
    seeds: dict[str, int]
    files: tuple[FileReport, ...]
    refused: tuple[RefusedFile, ...]
    weights: StoredFile
    card: StoredFile
    environment: dict[str, str]

    @property
    def listed(self) -> tuple[StoredFile, ...]:
        """Every file of the bundle but the report."""
        return (*self.files, self.weights, self.card)
