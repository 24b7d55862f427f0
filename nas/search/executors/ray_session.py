"""Connecting this process to Ray: to a running cluster, or to a private one that lives and dies with it."""

import logging
import math
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import ray

from nas.config import RayConfig
from nas.errors import RunError

_PREFIX = "hwnas-ray-"
# Ray puts sockets at <temp dir>/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store (66 characters and a
# counter), and a socket's path has at most 107 bytes (sun_path in unix(7), its closing zero excluded).
_MAX_TEMP_DIR_BYTES = 107 - 70
_OBJECT_STORE_BYTES = 100 * 2**20


def connect(config: RayConfig) -> Callable[[], None]:
    """Connects to the config's address, by name and never to a cluster that merely happens to run here.

    Returns:
        What disconnects; it ends a private Ray and removes its files.

    Raises:
        RunError: Ray cannot be started or reached, or this process is connected already.
    """
    if ray.is_initialized():
        raise RunError("this process is connected to Ray already: close that connection before a search starts its own")
    # Ray replaces the handler of SIGTERM by one that exits at once; the search's own one ends it cleanly.
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        return _connect_private(config) if config.address == "local" else _connect_cluster(config.address)
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _connect_private(config: RayConfig) -> Callable[[], None]:
    # No usage report leaves this machine, and workers without a GPU keep the variables they were given.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray listens on every interface and asks for a token (its default for a new local cluster); this one is known to
    # this process and its children only.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    temp_dir = make_temp_dir()

    def disconnect() -> None:
        ray.shutdown()
        shutil.rmtree(temp_dir, ignore_errors=True)

    try:
        ray.init(
            address="local",
            num_cpus=math.ceil(config.workers * config.cpus_per_worker),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(temp_dir),
        )
    except BaseException as error:
        disconnect()
        if isinstance(error, Exception):
            raise RunError(f"Ray does not start ({error}): use ray.executor=serial to search without it") from error
        raise
    return disconnect


def _connect_cluster(address: str) -> Callable[[], None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(
            f"no Ray cluster answers at ray.address={address!r} ({error}): start it, or use ray.address=local"
        ) from error
    return ray.shutdown


def make_temp_dir() -> Path:
    """Returns a new folder for a private Ray, short enough for its sockets; those of dead processes are removed.

    Raises:
        RunError: no folder for temporary files has a path that is short enough.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    for parent in dict.fromkeys(candidates):
        length = len(os.fsencode(parent / f"{_PREFIX}1234567-12345678"))
        if length <= _MAX_TEMP_DIR_BYTES and os.access(parent, os.W_OK | os.X_OK):
            _remove_left_behind(parent)
            return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    raise RunError(
        f"Ray needs a folder for sockets with a path of at most {_MAX_TEMP_DIR_BYTES - 25} bytes: set TMPDIR to one, "
        "or use ray.executor=serial"
    )


def _remove_left_behind(parent: Path) -> None:
    """Removes the folders of processes that were killed; Ray's own processes die with their driver."""
    for path in parent.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)
