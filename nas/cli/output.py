"""The one output sink: data on stdout (a table for people, JSON for scripts), everything else on stderr."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from nas.progress import Progress

Format = Literal["table", "json"]
PLAIN_LINE_SECONDS = 10.0


def emit(data: Mapping[str, object] | Sequence[object], rows: Sequence[Mapping[str, object]], format: Format) -> None:
    """Writes the answer of a command to stdout.

    Args:
        data: the whole answer, for ``json``.
        rows: what a table shows, one mapping per line; a key that a line lacks leaves its cell empty.
        format: ``table`` or ``json``.
    """
    if format == "json":
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = all(isinstance(row.get(name, ""), int | float) or row.get(name, "") in ("", "-") for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    # A pipe has no width: never wrap what another program reads line by line.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 240).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say(text: str) -> None:
    """Writes a line for people to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class ProgressLine:
    """One live line on a terminal, else a plain line at a fixed interval; notable events get their own."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._started = 0.0
        self._printed = 0.0
        self._open_line = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_line()

    def __call__(self, progress: Progress) -> None:
        """Shows an event."""
        now = time.monotonic()
        new_stage = progress.stage != self._stage
        if new_stage:
            self._close_line()
            self._stage, self._started, self._printed = progress.stage, now, 0.0
        finished = progress.total > 0 and progress.done >= progress.total
        if progress.notable:
            self._close_line()
            say(f"{progress.stage}: {progress.text}")
        if self._live:
            sys.stderr.write("\r\x1b[2K" + self._text(progress, now))
            sys.stderr.flush()
            self._open_line = True
        elif not progress.notable and (new_stage or finished or now - self._printed >= PLAIN_LINE_SECONDS):
            say(self._text(progress, now))
            self._printed = now

    def _text(self, progress: Progress, now: float) -> str:
        elapsed = now - self._started
        count = f"{progress.done}/{progress.total}" if progress.total else f"{progress.done}"
        left = ""
        if 0 < progress.done < progress.total:
            left = f", {_duration(elapsed / progress.done * (progress.total - progress.done))} left"
        text = f"  {progress.text}" if progress.text and not progress.notable else ""
        return f"{progress.stage:<8} {count:>9}  {_duration(elapsed)}{left}{text}"

    def _close_line(self) -> None:
        if self._open_line:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._open_line = False


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
