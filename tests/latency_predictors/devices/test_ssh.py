"""What only a device at the far end of a connection has; a real OpenSSH server on loopback plays the board."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from latency_predictors.devices import get_device
from latency_predictors.devices.base import BlockPlan, DeviceError
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import PRESETS
from latency_predictors.session import measure_files
from search_spaces.errors import InputError
from tests.latency_predictors.devices.ssh_server import SshServer
from tests.latency_predictors.test_session import SHORT

PLAN = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60)
LONG = BlockPlan(window_ms=600_000, min_inferences=10**9, patience=3, warmup_ms=1, timeout_seconds=1000)
NAME = "ssh/board/onnxruntime"


def _wait_for_a_model(board: SshServer) -> None:
    while not list(board.temporary.glob("hwnas-far-end-*/model.onnx")):
        time.sleep(0.02)


def test_finished_files_are_measured_on_a_board(board: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "short", SHORT)
    profile = DeviceProfile("ssh/board/litert", "int8")
    row = measure_files([get_device(profile.device).reference("int8")], profile, preset="short")[0]
    assert (row.profile.id, row.runtime) == ("ssh/board/litert/int8/1-thread", "litert")
    assert row.quiet_share is not None  # every block was run; the machine may be too busy for a verdict
    assert row.environment.runtime.startswith("LiteRT")


def test_the_board_reads_the_counter_that_is_chosen_here(
    board: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        rail = tmp_path / f"class/hwmon/hwmon{number}/power1_input"
        rail.parent.mkdir(parents=True)
        rail.write_text("5000000\n")
    monkeypatch.setenv("HWNAS_SYSFS", str(tmp_path))
    monkeypatch.setenv("HWNAS_POWER_RAIL", "the 5 V rail's")
    device = get_device(NAME)
    plan = dataclasses.replace(PLAN, energy_seconds=0.1)
    device.measure_block([device.reference("fp32")], threads=1, plan=plan)
    assert 'must be one of hwmon0/power1, hwmon1/power1, got "the 5 V rail\'s"' in caplog.text


def test_a_wrong_host_key_is_one_sentence(board: SshServer) -> None:
    board.trust("other_key")
    with pytest.raises(DeviceError, match=r"no connection, or it was lost: Host key verification failed; `ssh ") as it:
        get_device(NAME).environment()
    assert "\n" not in str(it.value)


def test_a_board_that_refuses_the_key_is_one_sentence(board: SshServer) -> None:
    shutil.copy(board.folder / "other_key.pub", board.folder / "authorized_keys")
    with pytest.raises(DeviceError, match=r"Permission denied \(publickey\)"):
        get_device(NAME).environment()


def test_a_board_that_is_off_is_one_sentence(board: SshServer) -> None:
    board.stop()
    with pytest.raises(DeviceError, match=f"device {NAME}: no connection, .*Connection refused"):
        get_device(NAME).environment()


def test_a_lost_connection_is_no_failure_of_the_model(board: SshServer) -> None:
    def pull_the_plug() -> None:
        _wait_for_a_model(board)
        sessions = [process for process in board.processes() if "sshd" in process.name()]
        for session in sessions:
            session.kill()

    cutter = threading.Thread(target=pull_the_plug)
    cutter.start()
    device = get_device(NAME)
    with pytest.raises(DeviceError, match="no connection, or it was lost"):
        device.measure_block([device.reference("fp32")], threads=1, plan=LONG)
    cutter.join()
    # The board's processes are no longer the server's children: what they leave is looked for by folder.
    for _ in range(200):
        if not list(board.temporary.glob("hwnas-far-end-*")):
            break
        time.sleep(0.05)
    assert not list(board.temporary.glob("hwnas-far-end-*"))


def test_a_host_that_is_killed_leaves_nothing_on_the_board(board: SshServer) -> None:
    code = (
        "from latency_predictors.devices import get_device\n"
        "from tests.latency_predictors.devices.test_ssh import LONG, NAME\n"
        "device = get_device(NAME)\n"
        "device.measure_block([device.reference('fp32')], threads=1, plan=LONG)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    _wait_for_a_model(board)
    client = psutil.Process(host.pid).children()
    host.kill()
    host.wait()
    board.wait_until_clean()
    assert psutil.wait_procs(client, timeout=60)[1] == []


def test_a_runtime_that_the_board_lacks_is_named_with_the_mend(board: SshServer, tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    board.restart(PYTHONPATH=str(tmp_path / "lacking"))
    with pytest.raises(DeviceError, match="cannot measure: No module named onnxruntime; on board, install numpy and"):
        get_device(NAME).environment()


def test_a_board_without_numpy_is_one_sentence(board: SshServer, tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "numpy.py").write_text("raise ImportError('No module named numpy')")
    board.restart(PYTHONPATH=str(tmp_path / "lacking"))
    with pytest.raises(DeviceError, match=r"did not start: .*No module named numpy; on board, install numpy and"):
        get_device(NAME).environment()


def test_a_board_without_python_is_one_sentence(board: SshServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sh").symlink_to(str(shutil.which("sh")))
    board.restart(PATH=str(tmp_path / "empty"))
    with pytest.raises(DeviceError, match=f"device {NAME} did not start: board has no python3"):
        get_device(NAME).environment()


def test_a_virtual_environment_at_the_fixed_place_wins(board: SshServer, tmp_path: Path) -> None:
    python = board.folder / "home" / ".hwnas" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ntouch {tmp_path}/used\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert get_device(NAME).environment().runtime.startswith("ONNX Runtime")
    assert (tmp_path / "used").exists()


def test_login_scripts_that_print_do_not_disturb(board: SshServer) -> None:
    python = board.folder / "home" / ".hwnas" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho Welcome to the board\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert get_device(NAME).environment().runtime.startswith("ONNX Runtime")


def test_blocks_on_a_board_wait_for_each_other(board: SshServer) -> None:
    device = get_device(NAME)

    def measure() -> None:
        device.measure_block([device.reference("fp32")] * 2, threads=1, plan=PLAN)

    workers = [threading.Thread(target=measure) for _ in range(2)]
    for worker in workers:
        worker.start()
    most = 0
    while any(worker.is_alive() for worker in workers):
        most = max(most, sum("runner.py" in " ".join(_words(process)) for process in board.processes()))
        time.sleep(0.01)
    assert most == 1


def test_no_ssh_program_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="needs the program `ssh`"):
        get_device(NAME).environment()


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "", "a b", "a;b", "$HOME"])
def test_a_host_that_could_be_an_option_or_a_command_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="an SSH host is a name"):
        get_device(f"ssh/{host}/litert")


def test_a_board_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, board: SshServer) -> None:
    # A socket that accepts and says nothing, as a board that hangs does.
    board.stop()
    monkeypatch.setattr("latency_predictors.devices.ssh.CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", board.port))
        silent.listen()
        with pytest.raises(DeviceError, match=r"no connection, or it was lost: Connection timed out|banner exchange"):
            get_device(NAME).environment()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
