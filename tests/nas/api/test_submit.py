"""Jobs on a real Ray cluster of one machine, with its job server and a token."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from nas import api
from nas.errors import InputError, RunError
from nas.search.ledger import Ledger
from tests.nas.search.small import wait_until
from tests.nas.test_config import DIGITS
from tests.processes import end_with_parent

pytest.importorskip("aiohttp", reason="the job server needs ray[default]: pip install 'hwnas[cluster]'")

ROOT = Path(__file__).parents[3]
QUICK = (
    "accuracy.epochs=1",
    "objectives=[accuracy, macs]",
    "data={name: digits, max_images: 300}",
    "search={sampler: random, budget: 4}",
    "finish={models: 1, epochs: 1}",
    "ray={workers: 1}",
)


@dataclass(frozen=True)
class JobServer:
    address: str
    token: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    import requests

    port, token = free_port(), secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="hwnas-job-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = ["start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2", f"--temp-dir={folder}/ray"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        command += [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
        environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        with (Path(folder) / "log").open("w") as log:
            head = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *command],
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),  # at which it ends what it has started
            )
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert head.poll() is None, (Path(folder) / "log").read_text()
            try:
                reply = requests.get(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=5)
            except requests.ConnectionError:
                return False
            return reply.ok

        try:
            wait_until(answers, 120)
            yield JobServer(address, token)
        finally:
            head.send_signal(signal.SIGTERM)
            try:
                head.wait(60)
            finally:
                head.kill()


@pytest.fixture
def token(server: JobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", server.token)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")


@pytest.mark.slow
@pytest.mark.usefixtures("token")
def test_a_stopped_job_is_resumed_by_submitting_it_again(server: JobServer, tmp_path: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    overrides = (f"runs_dir={tmp_path}", *QUICK)
    first = api.submit(DIGITS, server.address, overrides)
    assert first.running
    assert not first.resubmitted
    again = api.submit(DIGITS, server.address, overrides)
    assert again.id == first.id, "one job of a run runs at a time"
    ledger_path = tmp_path / "digits" / "ledger.db"
    wait_until(ledger_path.exists, 120)
    # Ray reads its own settings once in a process: what an earlier test made of them must not matter here.
    client = JobSubmissionClient(server.address, headers={"Authorization": f"Bearer {server.token}"})
    client.stop_job(first.id)
    wait_until(lambda: client.get_job_status(first.id).is_terminal(), 60)
    second = api.submit(DIGITS, server.address, overrides)
    assert second.running
    assert second.resubmitted
    assert second.id != first.id
    wait_until((tmp_path / "digits" / "front.json").exists, 120)
    with Ledger(ledger_path) as ledger:
        assert sum(attempt.ending == "done" for attempt in ledger.attempts()) == 4
    client.stop_job(second.id)  # finishing is tested elsewhere, and takes long
    wait_until(lambda: client.get_job_status(second.id).is_terminal(), 60)


@pytest.mark.slow
@pytest.mark.usefixtures("token")
def test_a_job_that_fails_says_why(server: JobServer, tmp_path: Path) -> None:
    lines: list[str] = []
    overrides = (f"runs_dir={tmp_path}", "name=lost", "data={name: folder, path: /not/on/the/cluster}")
    job = api.submit(DIGITS, server.address, overrides, follow=True, log=lines.append)
    assert job.status == "FAILED"
    assert any("/not/on/the/cluster" in line for line in lines)


@pytest.mark.slow
def test_a_wrong_token_is_refused(server: JobServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong" * 10)
    with pytest.raises(RunError, match="RAY_AUTH_TOKEN"):
        api.submit(DIGITS, server.address, (f"runs_dir={tmp_path}",))


def test_nobody_at_the_address_is_told(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RunError, match=address):
        api.submit(DIGITS, address, (f"runs_dir={tmp_path}",))


def test_a_run_directory_that_would_go_with_the_job_is_refused() -> None:
    with pytest.raises(InputError, match=r"runs_dir must be an absolute path on the cluster, .* got runs"):
        api.submit(DIGITS, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "override", ["ledger=postgresql+psycopg://nas:geheim@db/nas", "search.mirror=mysql://nas:geheim@db/nas"]
)
def test_a_password_does_not_go_with_a_job(override: str, tmp_path: Path) -> None:
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=f"^{key} has a password, which does not go with a job") as refused:
        api.submit(DIGITS, "http://127.0.0.1:1", (f"runs_dir={tmp_path}", override))
    assert "geheim" not in str(refused.value)
