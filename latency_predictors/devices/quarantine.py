"""Quarantine: a device that hung is left alone for a while, by every process of this user on this machine.

A network that hangs is the network's fault and costs only itself. A device hangs where it does not even start, or does
not get done with the reference network, which has always run.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from latency_predictors.devices.base import DeviceError, DeviceHungError
from search_spaces.atomic import write_bytes
from search_spaces.errors import InputError
from search_spaces.file_lock import hold

QUARANTINE_SECONDS = 1800.0
"""Time enough for a person to look, and for a hot or restarting device to come back."""


@dataclass(frozen=True)
class Quarantine:
    """Why a device is left alone, and until when.

    Attributes:
        reason: one sentence.
        until: its end, UTC.
    """

    reason: str
    until: datetime


def quarantined() -> dict[str, Quarantine]:
    """Returns the devices that are in quarantine now, by name; a damaged file counts as none."""
    try:
        rows = json.loads(_file().read_text())
        found = {name: Quarantine(row["reason"], datetime.fromisoformat(row["until"])) for name, row in rows.items()}
        return {name: entry for name, entry in found.items() if entry.until > datetime.now(UTC)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def put(device: str, reason: str) -> Quarantine:
    """Puts a device in quarantine."""
    entry = Quarantine(reason, datetime.now(UTC) + timedelta(seconds=QUARANTINE_SECONDS))
    _change(lambda known: known | {device: entry})
    return entry


def release(device: str) -> None:
    """Ends a device's quarantine.

    Raises:
        InputError: it is in none.
    """
    known = quarantined()
    if device not in known:
        held = ", ".join(known) or "none"
        raise InputError(f"{device} is not in quarantine, {held} is: nothing to release")
    _change(lambda known: {name: entry for name, entry in known.items() if name != device})


@contextmanager
def guarded(device: str) -> Iterator[None]:
    """Measuring on a device: refused while it is in quarantine, and put there where it hangs.

    Raises:
        DeviceError: it is in quarantine, or has just got there.
    """
    if entry := quarantined().get(device):
        raise DeviceError(f"device {device} is in quarantine{_end(device, entry)}: {entry.reason}")
    try:
        yield
    except DeviceHungError as error:
        try:
            entry = put(device, str(error))
        except OSError as unwritten:
            raise DeviceError(f"{error}; the list of quarantines cannot be written: {unwritten}") from None
        raise DeviceError(f"{error}; it is in quarantine{_end(device, entry)}") from None


def _end(device: str, entry: Quarantine) -> str:
    return f" until {entry.until:%H:%M} UTC, or `nas latency devices --release {device}`"


def _change(change: Callable[[dict[str, Quarantine]], dict[str, Quarantine]]) -> None:
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold(file.with_suffix(".lock"), wait=True):
        rows = {
            name: {"reason": entry.reason, "until": entry.until.isoformat(timespec="seconds")}
            for name, entry in change(quarantined()).items()
        }
        write_bytes(file, json.dumps(rows, indent=1).encode())


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    # Hosts that share a home have devices of the same names.
    return Path(state) / "hwnas" / f"quarantine-{platform.node() or 'localhost'}.json"
