"""MODEL_CARD.md: what a person needs to know before using the files of a bundle."""

from collections.abc import Iterable, Mapping, Sequence

from nas.data import ImageData, card_markdown
from nas.finish.report import Expectation, FileReport, LatencyReport, NetworkReport, Preprocessing, RefusedFile, Setting


def model_card(
    *,
    key: str,
    network: NetworkReport,
    expected: Mapping[str, Expectation],
    preprocessing: Preprocessing,
    training: Mapping[str, Setting],
    files: Sequence[FileReport],
    refused: Sequence[RefusedFile],
    data: ImageData,
    environment: Mapping[str, str],
) -> str:
    """Returns the model card as Markdown; the arguments are the parts of the report."""
    sections = [
        [f"# Model card: {key}", "", _summary(network, data)],
        ["## Intended use", "", *_intended_use(data)],
        ["## Architecture", "", *_architecture(network, expected)],
        ["## Files", "", *_files(files), *_refused(refused)],
        ["## Preprocessing", "", *_preprocessing(preprocessing, files)],
        ["## Accuracy on the test split", "", *_accuracy(network, files)],
        ["## Latency", "", *_latency(files)],
        ["## Training", "", *_settings(training)],
        [card_markdown(data).replace("# Data:", "## Data:", 1).rstrip()],
        ["## Limitations", "", *_limitations(data, files)],
        ["## Checksums", "", *(f"    {file.sha256}  {file.name}" for file in files)],
        ["## Made with", "", *_settings(environment)],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _settings(settings: Mapping[str, Setting]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in settings.items()]


def _summary(network: NetworkReport, data: ImageData) -> str:
    return (
        f"An image classifier for {data.classes} classes of {data.name}: {network.parameters:,} parameters, "
        f"{network.macs:,} multiply-accumulates for an image of {network.resolution}x{network.resolution} pixels, "
        f"{network.test_accuracy:.2%} of the test images right in torch."
    )


def _intended_use(data: ImageData) -> list[str]:
    return [
        f"Tells which of {data.classes} classes an image belongs to, for images like those of the training data "
        f"({data.source}). The classes, in the order of the logits: {', '.join(data.class_names)}.",
        "",
        "The files compute logits. Their greatest is the answer; their softmax is not calibrated as a probability.",
    ]


def _architecture(network: NetworkReport, expected: Mapping[str, Expectation]) -> list[str]:
    lines = [
        f"- Short form: `{network.text}`",
        f"- JSON form: `{network.architecture}`",
        f"- Parameters: {network.parameters:,}; multiply-accumulates: {network.macs:,}",
    ]
    for name, value in expected.items():
        interval = "" if value.lower is None else f" [{value.lower:.4g}, {value.upper:.4g}]"
        lines.append(f"- Before finishing, {name}: {value.value:.4g}{interval} {value.unit} ({value.source})")
    return lines


def _files(files: Sequence[FileReport]) -> list[str]:
    if not files:
        return ["No file passed its checks."]
    return _table(
        ["file", "runtime", "precision", "bytes", "input", "output"],
        (
            [
                file.name,
                file.runtime,
                file.precision,
                f"{file.bytes:,}",
                f"`{file.image.name}` {file.image.layout} {list(file.image.shape)} {file.image.dtype}",
                f"`{file.logits.name}` {list(file.logits.shape)} {file.logits.dtype}",
            ]
            for file in files
        ),
    )


def _refused(refused: Sequence[RefusedFile]) -> list[str]:
    return ["", *(f"- **Refused: {file.name}**, {file.reason}." for file in refused)] if refused else []


def _preprocessing(preprocessing: Preprocessing, files: Sequence[FileReport]) -> list[str]:
    lines = [f"{number}. {step}" for number, step in enumerate(preprocessing.steps, start=1)]
    for file in files:
        if file.image.scale is not None:
            lines += [
                "",
                f"`{file.name}` takes and gives integers: input q = clip(round(x / {file.image.scale!r}) + "
                f"({file.image.zero_point}), -128, 127); logit y = (q - ({file.logits.zero_point})) * "
                f"{file.logits.scale!r}.",
            ]
    return lines


def _accuracy(network: NetworkReport, files: Sequence[FileReport]) -> list[str]:
    rows = [["torch", f"{network.test_accuracy:.4f}", "", "", "", ""]]
    for file in files:
        found = file.verification
        rows.append(
            [
                file.name,
                f"{found.accuracy:.4f}",
                f"{found.accuracy_lower:.4f} to {found.accuracy_upper:.4f}",
                f"{found.top1_agreement:.4f}",
                f"{found.max_abs_difference:.3g}",
                f"{found.mean_abs_difference:.3g}",
            ]
        )
    head = ["", "accuracy", "95 % interval", "same answer as torch", "greatest logit difference", "mean"]
    lines = _table(head, rows)
    if files:
        found = files[0].verification
        lines += [
            "",
            f"Each file was run by its own runtime on all {found.images} test images, which nothing before this looked "
            f"at. The standard deviation of torch's logits is {found.logit_scale:.3g}.",
        ]
    return lines


def _latency(files: Sequence[FileReport]) -> list[str]:
    rows = [_latency_row(file, latency) for file in files for latency in file.latencies]
    if not rows:
        return ["No file was measured."]
    measured = [latency for file in files for latency in file.latencies if latency.processor]
    machines = sorted({f"{x.runtime_version} on {x.processor}" for x in measured})
    return [
        *_table(
            ["file", "device", "predicted, 90 % interval", "constraint", "measured, 95 % interval", "promise"], rows
        ),
        "",
        "Milliseconds for one image. A promise is kept where the measured latency is at most the upper end of the "
        "predicted interval and within the experiment's constraints."
        + (f" Measured with {' and '.join(machines)}." if machines else ""),
        *(line for file in files for latency in file.latencies for line in _other_costs(file, latency)),
    ]


def _other_costs(file: FileReport, latency: LatencyReport) -> list[str]:
    """Returns a line for each of energy and memory, after an empty one."""
    lines = []
    for cost in latency.other_costs:
        predicted = _interval(cost.predicted, cost.predicted_lower, cost.predicted_upper)
        measured = "not measured" if cost.measured is None else f"measured {cost.measured:.4g}"
        bounds = "".join(f", {constraint}" for constraint in cost.constraints)
        lines += [
            "",
            f"{file.name} on {latency.device}: {cost.metric} predicted {predicted}{bounds}, {measured}: "
            f"{cost.outcome}.",
        ]
    return lines


def _latency_row(file: FileReport, latency: LatencyReport) -> list[str]:
    device = f"{latency.device} ({latency.profile})" if latency.device else latency.profile
    measured = _interval(latency.measured_ms, latency.measured_lower_ms, latency.measured_upper_ms)
    if latency.reason:
        measured = f"{measured} {latency.verdict}: {latency.reason}".strip()
    return [
        file.name,
        device,
        _interval(latency.predicted_ms, latency.predicted_lower_ms, latency.predicted_upper_ms),
        ", ".join(latency.constraints),
        measured,
        latency.outcome,
    ]


def _interval(value: float | None, lower: float | None, upper: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if lower is None or upper is None else f"{value:.4g} [{lower:.4g}, {upper:.4g}]"


def _limitations(data: ImageData, files: Sequence[FileReport]) -> list[str]:
    lines = [
        "- Every image gets one of the classes above, also one that shows none of them.",
        f"- Accuracy is known for images drawn like {data.name} only; other cameras, places or times may do worse.",
        "- Latency was measured on the processor above, alone, one image at a time; other machines and loads differ.",
    ]
    if data.licence is None:
        lines.append("- The data's files state no licence: check what their owner allows before shipping the model.")
    if any(file.precision == "int8" for file in files):
        lines.append("- INT8 ranges come from training images; much brighter, darker or noisier images saturate them.")
    return lines
