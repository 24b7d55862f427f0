import pytest

from nas.data import ImageData
from tests.nas.torch_threads import one_thread  # noqa: F401  (a fixture for every test here)
from tests.nas.training.parts import digits


@pytest.fixture(scope="session")
def data() -> ImageData:
    return digits()
