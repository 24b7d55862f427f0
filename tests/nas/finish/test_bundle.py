import json
import random
import shutil
from pathlib import Path

import pytest

from nas.api import doctor
from nas.errors import RunError
from nas.finish import read_bundle
from search_spaces.checksum import read_json, write_json
from tests.nas.damage import DAMAGE, damaged
from tests.nas.finish.conftest import Finished


def bundle_copy(finished: Finished, folder: Path) -> Path:
    return finished.copy(folder).folder / finished.bundles[0].report.key


@pytest.mark.slow
def test_a_bundle_reads_back_as_it_was_written(finished: Finished) -> None:
    assert read_bundle(finished.bundles[0].folder) == finished.bundles[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "MODEL_CARD.md", "network.safetensors"])
def test_a_changed_byte_in_a_listed_file_is_noticed(name: str, finished: Finished, tmp_path: Path) -> None:
    folder = bundle_copy(finished, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name} is not the file that report\.json lists: finish the network again"):
        read_bundle(folder)


@pytest.mark.slow
def test_a_missing_listed_file_is_noticed(finished: Finished, tmp_path: Path) -> None:
    folder = bundle_copy(finished, tmp_path)
    (folder / "model_int8.tflite").unlink()
    with pytest.raises(RunError, match=r"model_int8\.tflite is missing"):
        read_bundle(folder)


@pytest.mark.slow
def test_another_format_is_refused_by_name(finished: Finished, tmp_path: Path) -> None:
    folder = bundle_copy(finished, tmp_path)
    write_json(folder / "report.json", read_json(folder / "report.json") | {"format": 2})
    with pytest.raises(RunError, match="has format 2, this version reads format 1"):
        read_bundle(folder)


def test_a_report_of_other_content_is_one_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"format": 1, "key": 3})
    with pytest.raises(RunError, match=r"report\.json is damaged \(.+\): finish the network again"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}'])
def test_a_damaged_report_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(RunError, match=r"report\.json is damaged \(.+\): finish the network again"):
        read_bundle(tmp_path)


def test_a_folder_without_a_report_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished network"):
        read_bundle(tmp_path)


@pytest.mark.slow
def test_a_bundle_has_a_table_row_for_each_file_on_each_device(finished: Finished) -> None:
    rows = finished.bundles[0].rows()
    assert [row["file"] for row in rows] == ["model.onnx", "model_int8.onnx", "model.tflite", "model_int8.tflite"]
    assert rows[1]["device"] == "cpu"
    assert rows[1]["predicted ms"] == "1 [1e-09, 400]"
    assert json.loads(json.dumps(finished.bundles[0].to_dict()))["key"] == finished.bundles[0].report.key


@pytest.mark.slow
def test_damage_of_any_file_is_told_by_the_reader_and_the_doctor_and_set_aside(
    finished: Finished, tmp_path: Path
) -> None:
    whole = {path.name: path.read_bytes() for path in finished.bundles[0].folder.iterdir()}
    assert len(whole) == 7
    run = tmp_path / "run"
    folder = run / "finish" / finished.bundles[0].report.key
    for place, name in enumerate(whole):
        for number, way in enumerate(DAMAGE):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(finished.bundles[0].folder, folder)
            (run / "status.json").touch()
            (folder / name).write_bytes(damaged(whole[name], way, random.Random(100 * place + number)))
            with pytest.raises(RunError, match="finish the network again"):
                read_bundle(folder)
            states = {Path(file.path).name: file.state for file in doctor(run).files if "finish/" in file.path}
            assert states[name] == "damaged", (name, way)
    assert f"{folder.relative_to(run)} was set aside" in " ".join(doctor(run, repair=True).repaired)
    assert not folder.exists()
