import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.latency_predictors.devices import ssh_server
from tests.latency_predictors.devices.phone import Phone
from tests.latency_predictors.devices.ssh_server import SshServer


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """A board that answers to ``ssh board``."""
    if not ssh_server.available():
        pytest.skip(ssh_server.MISSING)
    folder = tmp_path / "ssh"
    folder.mkdir()
    server = SshServer(folder)
    server.start()
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    yield server
    try:
        server.wait_until_clean()
    finally:
        server.stop()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """A phone that answers to `adb`."""
    folder = tmp_path / "phone"
    folder.mkdir()
    made = Phone(folder)
    monkeypatch.setenv("PATH", made.path())
    return made
