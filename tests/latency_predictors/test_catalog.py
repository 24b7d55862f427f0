"""The catalog: what was saved is what is loaded, or one sentence says why not."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest

from latency_predictors.catalog import ARRAYS, MANIFEST, VERIFIED, Catalog
from latency_predictors.evaluation import FittedPredictor, fit_predictor
from latency_predictors.kinds import list_kinds
from latency_predictors.learning_curve import CURVE
from search_spaces.checksum import read_json, write_json
from search_spaces.errors import InputError
from tests.latency_predictors.roofline import roofline_ms, tiny_networks

TRAIN, FRESH = tiny_networks(40, seed=1), tiny_networks(50, seed=2)


def _fit(kind: str = "linear", count: int = 40) -> FittedPredictor:
    networks = TRAIN[:count]
    return fit_predictor(
        networks, roofline_ms(networks), metric="latency_ms", device="local/litert/int8/1-thread", kinds=[kind], seed=7,
        repeats=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> FittedPredictor:
    return _fit()


@pytest.mark.parametrize("kind", list_kinds())
def test_a_loaded_predictor_predicts_the_same(kind: str, tmp_path: Path) -> None:
    fitted = _fit(kind)
    entry = Catalog(tmp_path / "predictors").save("phone", fitted)
    loaded = Catalog(tmp_path / "predictors").load("phone")
    before, after = fitted.predictor.predict(FRESH), loaded.predict(FRESH)
    for name in ("mean", "lower", "upper"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-12)
    assert (loaded.kind, loaded.metric, loaded.device, loaded.seed) == (
        kind, "latency_ms", "local/litert/int8/1-thread", 7,
    )  # fmt: skip
    assert entry.id == "phone/v1"


def test_an_entry_says_what_was_learned_from_and_how_well(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    saved = store.save("phone", fitted)
    entry = store.entry("phone/v1")
    assert entry == saved
    assert (entry.training_set, entry.rows) == (fitted.training_set, 40)
    assert entry.validations == fitted.validations
    assert entry.created.tzinfo is not None
    assert set(entry.versions) == {"hwnas", "numpy", "python"}


def test_each_save_is_a_new_version_and_old_ones_stay(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    assert store.save("phone", _fit(count=20)).id == "phone/v2"
    store.save("board.2", fitted)
    assert [entry.id for entry in store.entries()] == ["board.2/v1", "phone/v1", "phone/v2"]
    assert store.entry("phone").version == store.entry("phone/latest").version == 2
    assert store.entry("phone/v1").rows == 40
    assert store.load("phone/v2").predict(FRESH).mean[0] != store.load("phone/v1").predict(FRESH).mean[0]


def test_ten_versions_are_ordered_as_numbers(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    for _ in range(10):
        store.save("phone", fitted)
    assert store.entry("phone").id == "phone/v10"


@pytest.mark.parametrize("file", [ARRAYS, MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_file_is_one_sentence(file: str, damage: str, fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    path = tmp_path / "phone" / "v1" / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes({"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[damage])
    with pytest.raises(InputError, match=f"{file} is damaged .* fit again") as caught:
        store.load("phone")
    assert "\n" not in str(caught.value)


def test_every_single_flipped_digit_of_a_manifest_is_noticed(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    path = tmp_path / "phone" / "v1" / MANIFEST
    text = path.read_text()
    places = [i for i, letter in enumerate(text) if letter.isdigit()]
    for place in places[:: max(1, len(places) // 40)]:
        path.write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
        with pytest.raises(InputError, match="damaged"):
            store.entry("phone")


def test_a_predictor_of_other_features_must_be_fitted_again(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    _rewrite(tmp_path / "phone" / "v1" / MANIFEST, features=["macs"])
    with pytest.raises(InputError, match="fitted to other features than this version computes; fit it again"):
        store.load("phone")


def test_a_later_format_is_refused_by_name(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    _rewrite(tmp_path / "phone" / "v1" / MANIFEST, format=2)
    with pytest.raises(InputError, match="format: input should be 1, got 2"):
        store.load("phone")


def _rewrite(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


def test_an_unknown_name_or_version_says_what_there_is(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    with pytest.raises(InputError, match=r"no predictor 'phone' in .*`nas latency fit` makes one"):
        store.load("phone")
    store.save("phone", fitted)
    with pytest.raises(InputError, match="did you mean 'phone'"):
        store.load("phnoe")
    with pytest.raises(InputError, match="has the versions v1 and latest, got 'v3'"):
        store.load("phone/v3")
    with pytest.raises(InputError, match=r"no predictor '\.\.'"):
        store.load("../phone")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, fitted: FittedPredictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be letters, digits"):
        Catalog(tmp_path).save(name, fitted)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_save_leaves_is_no_version(fitted: FittedPredictor, tmp_path: Path) -> None:
    left = tmp_path / "phone" / ".new-0123"
    left.mkdir(parents=True)
    (left / ARRAYS).write_bytes(b"half")
    store = Catalog(tmp_path)
    assert store.entries() == []
    assert store.save("phone", fitted).id == "phone/v1"


def _save_many(path: Path, fitted: FittedPredictor, ready: Barrier) -> None:
    ready.wait(60)
    for _ in range(20):
        Catalog(path).save("phone", fitted)


def test_processes_that_save_at_once_each_get_versions_of_their_own(fitted: FittedPredictor, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    processes = [context.Process(target=_save_many, args=(tmp_path, fitted, ready)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert [entry.version for entry in Catalog(tmp_path).entries()] == list(range(1, 41))
    Catalog(tmp_path).load("phone")


def test_no_file_of_a_version_holds_code(fitted: FittedPredictor, tmp_path: Path) -> None:
    Catalog(tmp_path).save("phone", fitted)
    assert sorted(path.name for path in (tmp_path / "phone" / "v1").iterdir()) == [ARRAYS, CURVE, MANIFEST]
    assert (tmp_path / "phone" / "v1" / ARRAYS).read_bytes()[8:9] == b"{"  # safetensors: a JSON header, then numbers


def test_a_promoted_version_is_what_its_name_means_whatever_is_saved_later(
    fitted: FittedPredictor, tmp_path: Path
) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    store.save("phone", fitted)
    assert (store.promoted("phone"), store.entry("phone").version) == (None, 2)
    assert store.promote("phone/v1").id == "phone/v1"
    store.save("phone", fitted)
    assert (store.promoted("phone"), store.entry("phone").version, store.entry("phone/latest").version) == (1, 1, 3)
    assert store.promote("phone/latest").version == 3
    assert len(store.entries()) == 3


def test_what_cannot_be_promoted_is_refused(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    store.save("phone", fitted)
    store.save("phone", fitted)
    with pytest.raises(InputError, match="to promote, name a version, such as phone/v1"):
        store.promote("phone")
    with pytest.raises(InputError, match="has the versions v1, v2 and latest, got 'v3'"):
        store.promote("phone/v3")
    store.promote("phone/v2")
    rmtree(tmp_path / "phone" / "v2")
    with pytest.raises(InputError, match="phone/v2 was promoted and is gone: promote one that is there"):
        store.load("phone")
    assert store.promote("phone/v1") == store.entry("phone")


def test_the_last_verification_is_kept_beside_a_version(fitted: FittedPredictor, tmp_path: Path) -> None:
    store = Catalog(tmp_path)
    entry = store.save("phone", fitted)
    assert store.verified(entry) is None
    first = store.verify(entry, "a.parquet", fitted.validations[0].scores)
    assert store.verified(entry) == first
    assert store.verify(entry, "b.parquet", fitted.validations[0].scores) == store.verified(entry)
    assert store.load("phone").predict(FRESH).mean.shape == (50,)
    (tmp_path / "phone" / "v1" / VERIFIED).write_text("{}")
    with pytest.raises(InputError, match=r"verified.json is damaged"):
        store.verified(entry)
