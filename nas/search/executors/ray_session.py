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
from contextlib import suppress
from pathlib import Path
from typing import IO

import ray

from nas.config import RayConfig
from nas.errors import RunError
from search_spaces.file_lock import hold

_PREFIX = "hwnas-ray-"
_UNNAMED = ".hwnas-ray-"
_LOCK = "driver.lock"
# Ray puts sockets at <temp dir>/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store (66 characters and a
# counter), and a socket's path has at most 107 bytes (sun_path in unix(7), its closing zero excluded).
_MAX_PARENT_BYTES = 107 - 70 - len(f"/{_PREFIX}12345678")
_OBJECT_STORE_BYTES = 100 * 2**20


def connect(config: RayConfig, shipped_bytes: int = 0) -> Callable[[], None]:
    """Connects to the config's address, by name and never to a cluster that merely happens to run here.

    Args:
        config: address, number and resources of the workers.
        shipped_bytes: that a private Ray's object store must hold.

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
        return (
            _connect_private(config, shipped_bytes) if config.address == "local" else _connect_cluster(config.address)
        )
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _connect_private(config: RayConfig, shipped_bytes: int) -> Callable[[], None]:
    # Ray listens on every interface and asks for a token (its default for a new local cluster); this one is known to
    # this process and its children only.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    temp_dir, lock = make_temp_dir()

    def disconnect() -> None:
        ray.shutdown()
        shutil.rmtree(temp_dir, ignore_errors=True)
        lock.close()

    try:
        ray.init(
            address="local",
            num_cpus=math.ceil(config.workers * config.cpus_per_worker),
            object_store_memory=_OBJECT_STORE_BYTES + 2 * shipped_bytes,
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


def make_temp_dir() -> tuple[Path, IO[str]]:
    """Makes a folder for a private Ray, with a path that is short enough for its sockets.

    Folders that killed processes have left behind are removed.

    Returns:
        The folder, and the open lock in it that marks it as in use; the lock ends with the process.

    Raises:
        RunError: no folder for temporary files has a path that is short enough.
    """
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    for parent in dict.fromkeys(candidates):
        if len(os.fsencode(parent)) <= _MAX_PARENT_BYTES and os.access(parent, os.W_OK | os.X_OK):
            _remove_left_behind(parent)
            # It gets its name once it is locked: whatever has such a name and no held lock is dead.
            unnamed = Path(tempfile.mkdtemp(prefix=_UNNAMED, dir=parent))
            lock = hold(unnamed / _LOCK)
            return unnamed.rename(parent / unnamed.name.replace(_UNNAMED, _PREFIX)), lock
    raise RunError(
        f"Ray needs a folder for sockets with a path of at most {_MAX_PARENT_BYTES} bytes: set TMPDIR to one, or use "
        "ray.executor=serial"
    )


def _remove_left_behind(parent: Path) -> None:
    """Removes the folders of processes that were killed; Ray's own processes die soon after their driver."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), hold(folder / _LOCK):  # another user's, in use, or just being removed
            shutil.rmtree(folder, ignore_errors=True)
