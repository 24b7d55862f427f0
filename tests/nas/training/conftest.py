from collections.abc import Iterator

import pytest
import torch

from nas.data import ImageData
from tests.nas.training.parts import digits


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data() -> ImageData:
    return digits()
