"""Devices that hang, with real child processes that do."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from latency_predictors.devices import adb, lease, quarantine, runner_device
from latency_predictors.devices.base import DeviceError, DeviceHungError
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import PRESETS
from latency_predictors.session import measure_files
from nas.cli import run
from search_spaces.errors import InputError
from search_spaces.file_lock import hold
from tests.latency_predictors.devices.phone import HANGING, SERIAL, Phone
from tests.latency_predictors.test_session import SHORT
from tests.processes import end_with_parent

NAME = "local/onnxruntime"
FILE = runner_device.REFERENCES / "fp32.onnx"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(PRESETS, "short", SHORT)
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def _measure(device: str = NAME) -> None:
    measure_files([FILE], DeviceProfile(device), preset="short")


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A runtime whose process hangs when it starts."""
    (tmp_path / "onnxruntime.py").write_text("import time\ntime.sleep(1000)\n")
    with monkeypatch.context() as patch:
        patch.setattr(runner_device, "START_SECONDS", 3.0)
        patch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        yield patch


def test_a_device_that_does_not_start_is_killed_and_left_alone_until_released(
    hung: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        DeviceError, match=r"did not start: no answer within 3 s; .* it is in quarantine until \d\d:\d\d UTC"
    ):
        _measure()
    hung.undo()
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"is in quarantine until .* --release local/onnxruntime`: .* did not start"):
        _measure()
    assert time.monotonic() - started < 1
    measure_files([FILE.with_suffix(".tflite")], DeviceProfile("local/litert"), preset="short")  # others are not
    assert run(["latency", "devices", "--format", "json"]) == 0
    rows = {row["device"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows[NAME]["state"], rows["local/litert"]["state"]) == ("quarantine", "-")
    assert "did not start: no answer within 3 s" in rows[NAME]["reason"]
    assert rows[NAME]["until"].startswith(f"{datetime.now(UTC):%Y-%m-}")
    assert run(["latency", "devices", "--release", NAME]) == 0
    _measure()
    assert run(["latency", "devices", "--release", NAME]) == 2
    assert f"{NAME} is not in quarantine, none is" in capsys.readouterr().err


def test_a_device_that_hangs_at_the_reference_network_is_left_alone_until_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "QUARANTINE_SECONDS", 4.0)
    with monkeypatch.context() as patch:
        patch.setitem(PRESETS, "short", dataclasses.replace(SHORT, timeout_seconds=3))
        os.mkfifo(tmp_path / "fp32.onnx")  # reading it waits for ever
        patch.setattr(runner_device, "REFERENCES", tmp_path)
        with pytest.raises(DeviceError, match=r"the reference network fp32\.onnx hangs: no answer within 3 s; .* quar"):
            _measure()
    with pytest.raises(DeviceError, match="is in quarantine"):
        _measure()
    time.sleep(4)
    _measure()


def test_a_network_that_hangs_is_not_the_devices_fault(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reference network has as long, and the phone's program imports LiteRT for it.
    monkeypatch.setitem(PRESETS, "short", dataclasses.replace(SHORT, timeout_seconds=15))
    path = tmp_path / "hanging.tflite"
    path.write_bytes(HANGING)
    row = measure_files([path], DeviceProfile(f"adb/{SERIAL}/litert"), preset="short")[0]
    assert row.verdict == "refused"
    assert row.reason == "it could not be run: no answer within 15 s; the process was killed"
    assert quarantine.quarantined() == {}


def test_a_phone_that_no_longer_answers_is_left_alone(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "ADB_SECONDS", 1.0)
    phone.install(phone.bin / "adb", "#!/bin/sh\nexec sleep 1000\n")
    with pytest.raises(DeviceError, match=r"no longer answers: restart the phone.* it is in quarantine"):
        measure_files([FILE.with_suffix(".tflite")], DeviceProfile(f"adb/{SERIAL}/litert"), preset="short")
    assert list(quarantine.quarantined()) == [f"adb/{SERIAL}/litert"]


def test_hosts_that_share_a_home_have_quarantines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    quarantine.put(NAME, "it hung")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "node", lambda: "another-host")
        assert quarantine.quarantined() == {}
        with quarantine.guarded(NAME):
            pass
    assert list(quarantine.quarantined()) == [NAME]


def test_a_device_that_hangs_is_named_where_the_list_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with (
        pytest.raises(DeviceError, match="it hangs; the list of quarantines cannot be written: "),
        quarantine.guarded("a"),
    ):
        raise DeviceHungError("it hangs")


@pytest.mark.parametrize("damaged", ['{"a": 3', '{"a": {"reason": "it hung", "until": "2999-01-01T00:00:00"}}'])
def test_a_damaged_list_counts_as_none_and_is_written_anew(damaged: str) -> None:
    quarantine.put("a", "it hung")
    quarantine._file().write_text(damaged)
    assert quarantine.quarantined() == {}
    quarantine.put("b", "it hung")
    assert list(quarantine.quarantined()) == ["b"]
    with pytest.raises(InputError, match="a is not in quarantine, b is"):
        quarantine.release("a")


HOLD = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from latency_predictors.devices import lease
lease.GRACE_SECONDS = 0
with lease.lease("local/litert") as leased:
    leased.renew(float(sys.argv[2]))
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_lease_is_listed_waited_for_and_over_when_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=end_with_parent) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        assert run(["latency", "devices", "--format", "json"]) == 0
        rows = {row["device"]: row for row in json.loads(capsys.readouterr().out)}
        assert (rows["local/litert"]["state"], rows["local/litert"]["reason"]) == (
            "leased",
            f"process {holder.pid} measures",
        )
        with lease.lease("local/onnxruntime"):
            assert time.monotonic() - started > 2
        assert f"the lease of process {holder.pid}, which measures, is over" in caplog.text
        holder.kill()
    with lease.lease("local/onnxruntime"):
        assert [held.device for held in lease.leases()] == ["local/onnxruntime"]
    assert lease.leases() == []


def test_a_lease_is_not_over_while_its_holder_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.5)

    def wait() -> None:
        with lease.lease("local/onnxruntime"):
            pass

    waiter = threading.Thread(target=wait)
    with hold(tmp_path / f"hwnas-measuring-{os.getuid()}.lock", mode=0o600) as held:
        lease.Lease("local/litert", held).renew(100)
        waiter.start()
        time.sleep(1)
        held.truncate(0)  # a renewal, half done
        time.sleep(0.3)
        assert waiter.is_alive()
    waiter.join()
    assert "measuring beside it" not in caplog.text
