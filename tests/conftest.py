import multiprocessing
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_child_stays() -> Iterator[None]:
    """Kills what a test that failed has left running; pytest would wait for it at its end."""
    yield
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
