import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from nas.config import DataConfig
from nas.data import card_markdown, data_card, load_data
from tests.nas.data.image_files import random_images, write_folder


def test_the_card_of_digits_states_source_licence_counts_and_hashes() -> None:
    data = load_data(DataConfig())
    card = json.loads(json.dumps(data_card(data)))
    assert card["licence"] == "CC BY 4.0"
    assert card["images"] == {"train": 1150, "validation": 288, "test": 359}
    assert sum(map(sum, card["images_per_class"].values())) == 1797
    assert card["split_sha256"] == data.hashes
    text = card_markdown(data)
    assert "| all | 1150 | 288 | 359 |" in text
    assert data.hashes["test"] in text


def test_the_card_lists_duplicates_and_conflicts_and_escapes_class_names(tmp_path: Path) -> None:
    images = random_images(20)
    images[1] = images[0]
    write_folder(tmp_path / "train", images, ["a|b", "c"] * 10)
    write_folder(tmp_path / "test", images[:1], ["a|b"])
    data = load_data(DataConfig(name="folder", path=tmp_path))
    duplicates = data_card(data)["duplicates"]
    assert isinstance(duplicates, dict)
    assert sum(duplicates["dropped"].values()) == 2
    assert duplicates["dropped_with_another_label"] == 1
    assert duplicates["first_conflicts"] == [list(places) for places in data.leakage.conflicts]
    assert set(data.leakage.conflicts[0]) == {"test/a|b/000.png", "train/a|b/000.png", "train/c/001.png"}
    text = card_markdown(data)
    assert "2 dropped" in text
    assert "| a\\|b |" in text
    assert "not stated" in text


def test_the_card_for_selection_says_nothing_of_the_test_split_but_its_hash() -> None:
    data = load_data(DataConfig(max_images=100))
    card = data_card(data.without_test())
    assert card["images"] == {"train": 80, "validation": 20}
    assert np.shape(card["images_per_class"]["train"]) == (10,)  # type: ignore[index]
    assert card["split_sha256"] == data.hashes
    assert "| class | train | validation |\n" in card_markdown(data.without_test())


def test_importing_the_data_room_loads_no_heavy_package() -> None:
    code = "import sys, nas.data; print([m for m in ('torch', 'sklearn', 'pyarrow', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
