import hashlib

import pytest

from tests.nas.finish.conftest import Finished


@pytest.mark.slow
def test_the_card_says_what_a_person_needs(finished: Finished) -> None:
    bundle = finished.bundles[0]
    card = (bundle.folder / "MODEL_CARD.md").read_text()
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "Intended use", "Architecture", "Files", "Preprocessing", "Accuracy on the test split", "Latency", "Training",
        "Data: digits", "Limitations", "Checksums", "Made with",
    ]  # fmt: skip
    for file in bundle.report.files:
        digest = hashlib.sha256((bundle.folder / file.name).read_bytes()).hexdigest()
        assert f"    {digest}  {file.name}" in card
        assert f"| {file.name} | {file.verification.accuracy:.4f} |" in card
    assert f"subtract {list(finished.finishing.data.mean)} and divide by {list(finished.finishing.data.std)}" in card
    assert "CC BY 4.0" in card
    assert bundle.report.network.text in card


@pytest.mark.slow
def test_the_card_tells_how_integers_become_values(finished: Finished) -> None:
    image = finished.bundles[0].report.files[3].image
    assert image.dtype == "int8"
    card = (finished.bundles[0].folder / "MODEL_CARD.md").read_text()
    assert f"`model_int8.tflite` takes and gives integers: input q = clip(round(x / {image.scale!r})" in card
