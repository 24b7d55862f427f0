"""The verb that looks a run's files over: what is damaged, what that means, and how it is mended.

A repair makes again what the rest of the run holds, and sets aside what only another computation can give back, so that
the next start of the run does exactly that computation. A damaged file is kept beside, under a name with ``.damaged-``.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from shutil import copy2, rmtree

from nas.api.results import write_front
from nas.api.run_files import LEDGER_FILES, FileState, examine
from nas.config import ExperimentConfig
from nas.errors import HwnasError, InputError
from nas.run import Run, hold_run
from nas.search.journal import Examination, Journal, damaged_name
from search_spaces.checksum import read_json


@dataclass(frozen=True)
class Diagnosis:
    """What a look at a run's files showed.

    Attributes:
        run_dir: the directory.
        files: by path.
        repaired: what was done, a sentence each.
    """

    run_dir: Path
    files: tuple[FileState, ...]
    repaired: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not any(file.state in ("damaged", "missing") for file in self.files)

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return {
            "run": str(self.run_dir),
            "healthy": self.healthy,
            "repaired": list(self.repaired),
            "files": [asdict(file) for file in self.files],
        }

    def rows(self) -> list[dict[str, object]]:
        """Returns a table row for each file."""
        return [
            {
                "file": file.path,
                "kind": file.kind,
                "state": file.state,
                "what is wrong": file.problem,
                "consequence": file.consequence,
                "repair": file.mend,
            }
            for file in self.files
        ]


def doctor(run_dir: Path, *, repair: bool = False) -> Diagnosis:
    """Looks every file of a run over; with ``repair``, mends what can be mended.

    Looking works beside a running search. A repair restores every committed result of the ledger as long as one of
    ledger and journal is whole.

    Raises:
        InputError: no run there.
        RunError: a repair is asked for while another process works on the run.
    """
    if not any((run_dir / name).is_file() for name in ("config.yaml", "status.json", *LEDGER_FILES)):
        raise InputError(f"{run_dir} is no run directory (it has no config.yaml): give a directory that `nas run` made")
    if not repair:
        return Diagnosis(run_dir, examine(run_dir))
    with hold_run(run_dir):
        repaired = tuple(_Repair(run_dir, examine(run_dir)).run())
        return Diagnosis(run_dir, examine(run_dir), repaired)


class _Repair:
    """Mends the files of a run that nobody else works on.

    Args:
        run_dir: of the run.
        files: as examined.
    """

    def __init__(self, run_dir: Path, files: tuple[FileState, ...]) -> None:
        self._run_dir = run_dir
        self._files = files
        self._stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())

    def run(self) -> Iterator[str]:
        for file in self._files:
            if file.kind == "temporary":
                yield from self._remove(file)
        yield from self._each("config", self._config)
        yield from self._ledger()
        yield from self._each("status", self._status)
        yield from self._front()
        for kind in ("picks", "fleet", "supernet", "trained network", "checkpoint", "measurements", "other"):
            yield from self._each(kind, self._set_aside)
        for kind in ("predictor", "finished network"):
            folders = {str(PurePosixPath(file.path).parent) for file in self._bad(kind)}
            for folder in sorted(folders):
                if (self._run_dir / folder).is_dir():
                    yield self._set_aside(folder)

    def _bad(self, kind: str) -> list[FileState]:
        return [file for file in self._files if file.kind == kind and file.state in ("damaged", "missing")]

    def _each(self, kind: str, mend: Callable[[str], str]) -> Iterator[str]:
        for file in self._bad(kind):
            if file.state == "damaged" or kind in ("config", "status"):
                yield mend(file.path)

    def _remove(self, file: FileState) -> Iterator[str]:
        path = self._run_dir / file.path
        folder = next((parent for parent in path.parents if parent.name.startswith(".new-")), None)
        if folder is not None:
            rmtree(folder, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        yield f"{file.path} was removed"

    def _set_aside(self, name: str) -> str:
        path = self._run_dir / name
        kept = damaged_name(path, self._stamp)
        os.replace(path, kept)
        return f"{name} was set aside as {kept.name}"

    def _keep_copy(self, name: str) -> str:
        """Keeps a copy of a file that is replaced in one step next."""
        path = self._run_dir / name
        if not path.is_file():
            return ""
        kept = damaged_name(path, self._stamp)
        copy2(path, kept)
        return f"; the damaged one is {kept.name}"

    def _config(self, name: str) -> str:
        try:
            config = ExperimentConfig.model_validate(read_json(self._run_dir / "status.json")["config"])
        except (OSError, ValueError, KeyError):
            start = "start the run again with its experiment file"
            if (self._run_dir / name).is_file():
                return f"{self._set_aside(name)}, as status.json has no copy of it: {start}"
            return f"{name} cannot be restored, as status.json has no copy of it: {start}"
        kept = self._keep_copy(name)
        Run(self._run_dir, config).write_config()
        return f"{name} was restored from status.json{kept}"

    def _status(self, name: str) -> str:
        kept = self._keep_copy(name)
        try:
            Run.open(self._run_dir).write_status({})
        except InputError:
            return self._set_aside(name)
        return f"{name} was written again, without past stages{kept}"

    def _ledger(self) -> Iterator[str]:
        journal = Journal(self._run_dir / "ledger.db")
        found = journal.examine()
        if found.state == "good" and not self._torn(found, journal):
            return
        if found.state == "both damaged":
            yield found.problem
            return
        kept = ", ".join(path.name for path in journal.rebuild(found))
        done = {
            "good": "what was cut off at the end of ledger.journal was taken off",
            "behind": f"{found.written - found.held} transactions were written again to ledger.db from ledger.journal",
            "database damaged": f"ledger.db was rebuilt from ledger.journal, {found.written} transactions",
            "journal damaged": "ledger.journal was written again from ledger.db",
        }[found.state]
        yield done + (f"; damaged files are {kept}" if kept else "")

    def _torn(self, found: Examination, journal: Journal) -> bool:
        return journal.path.is_file() and journal.path.stat().st_size > found.whole_bytes

    def _front(self) -> Iterator[str]:
        bad = self._bad("front")
        if not bad:
            return
        from nas.search.ledger import Ledger
        from nas.search.results import evaluated

        names = " ".join(file.path for file in bad)
        try:
            run = Run.open(self._run_dir)
            with Ledger.of(run) as ledger:
                found = evaluated(ledger)
            kept = "".join(self._keep_copy(file.path) for file in bad)
            write_front(run, found)
        except (HwnasError, ValueError) as error:  # the latter where the ledger is that of other objectives
            yield f"{names} cannot be made again: {error}"
            return
        yield f"front.json, front.html and front.png were made again from {len(found)} results{kept}"
