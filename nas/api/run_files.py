"""The files of a run, and whether each is as it was written.

Every file carries or is listed with its SHA-256, and the ledger is compared with its journal row by row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from nas.errors import HwnasError, InputError
from nas.search.journal import Journal
from search_spaces.checksum import has_checksum, read_json, verify_checksum

State = Literal["good", "damaged", "missing", "unfinished", "leftover", "set aside", "not checked"]
"""Of a file: as it was written; not so; not there though an earlier stage made it; of a stage that was stopped, which
goes on from it; of a process that was killed; kept by an earlier repair; not written by this product."""


@dataclass(frozen=True)
class FileState:
    """A file of a run.

    Attributes:
        path: in the run's directory.
        kind: what it is.
        state: how it is.
        problem: what is wrong, in words.
        consequence: what that means.
        mend: what a repair does.
    """

    path: str
    kind: str
    state: State = "good"
    problem: str = ""
    consequence: str = ""
    mend: str = ""


@dataclass(frozen=True)
class _Kind:
    name: str
    pattern: str
    consequence: str
    mend: str


_AGAIN = "sets it aside; `nas run` on the run directory"
_FRONT = ("nothing is lost, the ledger has every result", "makes it again from the ledger")
_BEFORE = "training goes on from the one before"
_MEASURED = "they are measured again (minutes for each device) where a predictor has to be fitted again"
_KINDS = (
    _Kind("config", "config.yaml", "the run cannot be opened", "restores it from status.json"),
    _Kind("status", "status.json", "it is only a report of the stages", "writes it again, without past stages"),
    *(_Kind("front", f"front.{ending}", *_FRONT) for ending in ("json", "html", "png")),
    _Kind("picks", "picks.json", "the choice is lost", "sets it aside; choose again with `nas pick`"),
    _Kind("fleet", "fleet.*", "nothing is lost", "sets it aside; `nas fleet` makes it again"),
    _Kind("trust", "trust.*", "no trained network is lost", "sets it aside; `nas trust` makes it again"),
    _Kind(
        "supernet",
        "supernet/supernet.safetensors",
        "the search cannot go on and nothing can be finished; results stay",
        f"{_AGAIN} trains it again, which on the same machine gives the same weights",
    ),
    _Kind(
        "trained network",
        "networks/*/network.safetensors",
        "it cannot be finished; its result stays",
        "sets it aside; whatever needs it trains it again",
    ),
    _Kind("trained network", "trust/*/*/network.safetensors", "its accuracy stays", "sets it aside"),
    _Kind("checkpoint", "trust/*/*/checkpoints/*.safetensors", _BEFORE, "sets it aside"),
    _Kind("checkpoint", "networks/*/checkpoints/*.safetensors", _BEFORE, "sets it aside"),
    _Kind("checkpoint", "supernet/checkpoints/*.safetensors", _BEFORE, "sets it aside"),
    _Kind("checkpoint", "finish/*/checkpoints/*.safetensors", _BEFORE, "sets it aside"),
    _Kind("measurements", "measurements/*.parquet", _MEASURED, f"{_AGAIN} measures where that is needed"),
    _Kind("measurements", "finish/measurements.parquet", "finished files are measured again", "sets it aside"),
    _Kind(
        "predictor",
        "predictors/*/v*/*",
        "the search cannot go on; results stay",
        f"{_AGAIN} fits it again, or copies it from where the experiment names it",
    ),
    _Kind(
        "finished network", "finish/*/*", "it is not handed over", "sets its folder aside; `nas finish` makes it again"
    ),
)
LEDGER_FILES = ("ledger.db", "ledger.journal", "ledger.db-wal", "ledger.db-shm")
_RESULTS = "results of the search"


def examine(run_dir: Path) -> tuple[FileState, ...]:
    """Returns the state of every file of a run, by path; works beside a running search."""
    found = {file.path: file for file in _ledger(run_dir)}
    for path in sorted(run_dir.rglob("*")):
        name = path.relative_to(run_dir).as_posix()
        if path.is_file() and name not in found:
            found[name] = _file(run_dir, path, PurePosixPath(name))
    found |= {file.path: file for file in (*_predictors(run_dir, found), *_bundles(run_dir, found))}
    found |= {file.path: file for file in _missing(run_dir, found)}
    return tuple(file for _, file in sorted(found.items()))


def _file(run_dir: Path, path: Path, name: PurePosixPath) -> FileState:
    """Returns the state of a file by itself."""
    if any(".damaged-" in part for part in name.parts):
        return FileState(str(name), "damaged file", "set aside")
    if any(part.startswith(".new-") for part in name.parts) or (name.name.startswith(".") and name.suffix == ".tmp"):
        killed = "a process was killed while writing it"
        return FileState(str(name), "temporary", "leftover", killed, "none", "removes it")
    if name.suffix == ".lock":
        return FileState(str(name), "lock")
    kind = _kind(name)
    if kind is None or kind.name in ("predictor", "finished network"):
        return _other(path, name, kind)
    try:
        verify_checksum(path.read_bytes())
    except (OSError, ValueError) as error:
        return _damaged(name, kind, str(error))
    unfinished = kind.name == "checkpoint"
    return FileState(str(name), kind.name, "unfinished" if unfinished else "good")


def _kind(name: PurePosixPath) -> _Kind | None:
    fitting = (kind for kind in _KINDS if len(PurePosixPath(kind.pattern).parts) == len(name.parts))
    return next((kind for kind in fitting if name.match(kind.pattern)), None)


def _damaged(name: PurePosixPath, kind: _Kind, problem: str, state: State = "damaged") -> FileState:
    return FileState(str(name), kind.name, state, problem, kind.consequence, kind.mend)


def _other(path: Path, name: PurePosixPath, kind: _Kind | None) -> FileState:
    """Returns the state of a file of a folder that is judged as a whole, or of no known kind."""
    data = path.read_bytes() if name.suffix == ".json" else b""
    if kind is None and has_checksum(data):
        try:
            verify_checksum(data)
        except ValueError as error:
            return FileState(str(name), "other", "damaged", str(error), "unknown", "sets it aside")
        return FileState(str(name), "other")
    return FileState(str(name), kind.name if kind else "other", "not checked")


def _ledger(run_dir: Path) -> Iterator[FileState]:
    journal = Journal(run_dir / "ledger.db")
    found = journal.examine()
    bad = {"behind": "ledger.db", "database damaged": "ledger.db", "journal damaged": "ledger.journal"}
    mends = {
        "behind": "writes them again from ledger.journal",
        "database damaged": "rebuilds it from ledger.journal",
        "journal damaged": "writes it again from ledger.db",
    }
    lost = "the search cannot go on"
    for name in LEDGER_FILES:
        path, kind = run_dir / name, _RESULTS
        there = path.is_file()
        if name == bad.get(found.state) or (found.state == "both damaged" and name in LEDGER_FILES[:2]):
            mend = mends.get(found.state, "cannot mend it: restore both from a copy of the run")
            consequence = lost if found.state in mends else "results are lost"
            yield FileState(name, kind, "damaged" if there else "missing", found.problem, consequence, mend)
        elif there and name == "ledger.journal" and 0 < found.whole_bytes < path.stat().st_size:
            text = "its last line was cut off while it was written, and belongs to no result"
            yield FileState(name, kind, "leftover", text, "none", "takes it off, as the next start does")
        elif there:
            yield FileState(name, kind)
    if not any((run_dir / name).is_file() for name in LEDGER_FILES[:2]) and _has_searched(run_dir):
        problem, mend = "it is missing, and ledger.journal too", "cannot mend it: restore both from a copy of the run"
        yield FileState(LEDGER_FILES[0], _RESULTS, "missing", problem, "results are lost", mend)


def _has_searched(run_dir: Path) -> bool:
    """Returns whether a search with its ledger in the directory has ended well, as far as that is known."""
    try:
        status = read_json(run_dir / "status.json")
        return bool(status["stages"]["search"]["state"] == "done" and status["config"]["ledger"] is None)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _predictors(run_dir: Path, found: dict[str, FileState]) -> Iterator[FileState]:
    from latency_predictors.catalog import Catalog

    catalog = Catalog(run_dir / "predictors")
    for folder in sorted({PurePosixPath(name).parent for name, file in found.items() if file.kind == "predictor"}):
        files = [PurePosixPath(name) for name in found if PurePosixPath(name).parent == folder]
        manifest = folder / "manifest.json"
        kind = _kind(manifest)
        assert kind is not None
        try:
            catalog.load(f"{folder.parent.name}/{folder.name}", of_choices=True)
            yield from (FileState(str(name), kind.name) for name in files)
        except InputError as error:
            # The manifest says what the arrays must be; without it nothing is known of them.
            named = [name for name in files if str(run_dir / name) in str(error)] or [manifest]
            yield from (_damaged(name, kind, str(error)) for name in named)


def _bundles(run_dir: Path, found: dict[str, FileState]) -> Iterator[FileState]:
    folders = sorted({PurePosixPath(n).parent for n, file in found.items() if file.kind == "finished network"})
    if not folders:
        return
    from nas.finish.bundle import REPORT, file_problem, read_report

    for folder in folders:
        kind = _kind(folder / REPORT)
        assert kind is not None
        files = [PurePosixPath(name) for name in found if PurePosixPath(name).parent == folder]
        if folder / REPORT not in files:
            yield from (FileState(str(name), kind.name, "unfinished") for name in files)
            continue
        try:
            listed = read_report(run_dir / folder).listed
        except HwnasError as error:
            yield _damaged(folder / REPORT, kind, str(error))
            continue
        yield FileState(str(folder / REPORT), kind.name)
        for file in listed:
            problem = file_problem(run_dir / folder, file)
            there = (run_dir / folder / file.name).is_file()
            name = folder / file.name
            if problem:
                yield _damaged(name, kind, problem, "damaged" if there else "missing")
            else:
                yield FileState(str(name), kind.name)


def _missing(run_dir: Path, found: dict[str, FileState]) -> Iterator[FileState]:
    """Returns what stages that ended well must have left, and what opens the run."""
    expected = ["config.yaml"]
    for stage, state in _stages(run_dir).items():
        verb, _, device = stage.partition(" ")
        if state == "done":
            expected += {
                "train": ["supernet/supernet.safetensors"],
                "measure": [f"measurements/{device}.parquet"],
                "fit": [f"predictors/{device}/v*/manifest.json"],
                "search": ["front.json", "front.html", "front.png"],
            }.get(verb, [])
    for pattern in expected:
        if not any(PurePosixPath(name).match(pattern) for name in found):
            name = PurePosixPath(pattern.replace("*", "1"))
            kind = _kind(name)
            assert kind is not None
            yield _damaged(name, kind, "it is missing, though it was made", "missing")


def _stages(run_dir: Path) -> dict[str, str]:
    """Returns how the stages ended; nothing where that is not known."""
    try:
        return {name: stage["state"] for name, stage in read_json(run_dir / "status.json")["stages"].items()}
    except (OSError, ValueError, LookupError):
        return {}
