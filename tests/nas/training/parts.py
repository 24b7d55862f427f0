"""A space and data that train in a second."""

from nas.config import DataConfig, SupernetConfig
from nas.data import ImageData, load_data
from search_spaces.space import SearchSpace
from search_spaces.stage_table import StageTable

SPACE = SearchSpace(
    StageTable.model_validate(
        {
            "name": "small",
            "resolution": [6, 8],
            "image_channels": 1,
            "classes": 10,
            "channel_divisor": 4,
            "stem": {"channels": [8, 12], "stride": 1},
            "stages": [{"channels": 16, "depth": [1, 2], "stride": 2, "kernel": [3, 5], "expansion": [1, 2]}],
        }
    )
)
CONFIG = SupernetConfig(epochs=3, batch_size=16, learning_rate=1e-2, checkpoint_seconds=1e-9)


def digits(images: int = 200) -> ImageData:
    return load_data(DataConfig(max_images=images)).without_test()
