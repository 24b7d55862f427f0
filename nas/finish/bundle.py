"""A bundle: the folder of a finished network, as its report lists it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from nas.errors import RunError
from nas.finish.report import FORMAT, FileReport, FinishReport, LatencyReport, StoredFile
from search_spaces.checksum import read_json

REPORT = "report.json"
CARD = "MODEL_CARD.md"
WEIGHTS = "network.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A finished network.

    Attributes:
        folder: of its files.
        report: what is known about them.
    """

    folder: Path
    report: FinishReport

    @property
    def measured(self) -> bool:
        """Whether every file has a latency on every device; a busy machine may have refused some."""
        latencies = [latency for file in self.report.files for latency in file.latencies]
        return all(latency.outcome != "not measured" for latency in latencies)

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values: the folder and the report."""
        return {"folder": str(self.folder), **self.report.model_dump(mode="json")}

    def rows(self) -> list[dict[str, object]]:
        """Returns table rows, one for each file on each device, then one for each refused file."""
        rows = [_row(self, file, latency) for file in self.report.files for latency in file.latencies]
        rows += [
            {"model": self.report.key, "file": refused.name, "outcome": f"refused: {refused.reason}"}
            for refused in self.report.refused
        ]
        return rows


def _row(bundle: Bundle, file: FileReport, latency: LatencyReport) -> dict[str, object]:
    predicted = ""
    if latency.predicted_ms is not None:
        predicted = f"{latency.predicted_ms:.4g}"
        if latency.predicted_lower_ms is not None:
            predicted += f" [{latency.predicted_lower_ms:.4g}, {latency.predicted_upper_ms:.4g}]"
    return {
        "model": bundle.report.key,
        "file": file.name,
        "test accuracy": f"{file.verification.accuracy:.4f}",
        "kB": f"{file.bytes / 1000:.1f}",
        "device": latency.device or latency.profile,
        "predicted ms": predicted,
        "measured ms": "" if latency.measured_ms is None else f"{latency.measured_ms:.4g}",
        "outcome": "; ".join(
            [latency.outcome, *(f"{cost.metric} {cost.outcome}" for cost in latency.other_costs)],
        ),
    }


def stored(path: Path) -> StoredFile:
    """Returns size and hash of a file."""
    data = path.read_bytes()
    return StoredFile(name=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_bundle(folder: Path) -> Bundle:
    """Returns the bundle in a folder, every listed file's size and hash checked.

    Raises:
        RunError: there is no whole bundle; the text says what is wrong.
    """
    report = read_report(folder)
    for file in report.listed:
        problem = file_problem(folder, file)
        if problem:
            raise RunError(problem)
    return Bundle(folder, report)


def read_report(folder: Path) -> FinishReport:
    """Returns the report in a folder; the files that it lists are not looked at.

    Raises:
        RunError: there is none, or it is damaged or of another format.
    """
    path = folder / REPORT
    try:
        content = read_json(path)
        version = content.get("format")
        if version != FORMAT:
            raise RunError(f"{path} has format {version}, this version reads format {FORMAT}: finish the network again")
        return FinishReport.model_validate(content)
    except FileNotFoundError:
        raise RunError(f"{folder} holds no finished network (it has no {REPORT}): finish it first") from None
    except (OSError, ValueError, ValidationError) as error:
        detail = str(error).splitlines()[0]
        raise RunError(f"{path} is damaged ({detail}): finish the network again") from None


def file_problem(folder: Path, file: StoredFile) -> str:
    """Returns what is wrong with a listed file, in a sentence; empty where it is the one that was listed."""
    if not (folder / file.name).is_file():
        return f"{folder / file.name} is missing: finish the network again"
    found = stored(folder / file.name)
    if (found.bytes, found.sha256) != (file.bytes, file.sha256):
        return f"{folder / file.name} is not the file that {REPORT} lists: finish the network again"
    return ""
