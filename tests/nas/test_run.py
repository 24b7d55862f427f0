import multiprocessing
import os
import signal

import pytest

from nas.config import load_config
from nas.errors import InputError, RunError
from nas.run import Run
from tests.nas.test_config import DIGITS


@pytest.fixture
def config(tmp_path):
    return load_config(DIGITS, (f"runs_dir={tmp_path}",))


def test_a_run_opens_with_the_config_it_was_started_with(config):
    run = Run.start(config)
    assert Run.open(run.path).config == config


def test_a_run_goes_on_with_another_budget(config):
    Run.start(config)
    more = config.model_copy(update={"search": config.search.model_copy(update={"budget": 999})})
    assert Run.open(Run.start(more).path).config.search.budget == 999


def test_a_run_goes_on_where_its_decoded_images_are_kept_elsewhere(config):
    Run.start(config)
    Run.start(load_config(DIGITS, (f"runs_dir={config.runs_dir}", "data.cache=/elsewhere", "data.memory_gb=9")))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=5", "seed"),
        ("data.seed=5", "data.seed"),
        ("objectives=[accuracy,macs]", "objectives"),
        ("space=mobilenet_v3", "space"),
        ("accuracy.epochs=2", "accuracy"),
        ("search.warm_start=[published]", "search.warm_start"),
    ],
)
def test_a_run_refuses_what_would_change_its_candidates(config, override, key):
    Run.start(config)
    with pytest.raises(InputError, match=f"another `{key}`"):
        Run.start(load_config(DIGITS, (f"runs_dir={config.runs_dir}", override)))


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        Run.open(tmp_path)


def test_a_stage_records_how_it_ended(config):
    run = Run.start(config)
    with run.stage("train"):
        assert run.status()["stages"]["train"]["state"] == "running"
    with pytest.raises(RunError), run.stage("search"):
        raise RunError("the disk is full")
    stages = run.status()["stages"]
    assert stages["train"]["state"] == "done"
    assert stages["search"] == stages["search"] | {"state": "failed", "text": "the disk is full"}


def test_a_damaged_status_is_no_obstacle(config):
    run = Run.start(config)
    (run.path / "status.json").write_text("{half")
    with run.stage("train"):
        pass
    assert run.status()["stages"]["train"]["state"] == "done"


def _hold(path, held):
    with Run.open(path).locked():
        held.set()
        signal.pause()


def test_two_processes_cannot_work_on_one_run_and_a_killed_one_lets_go(config):
    run = Run.start(config)
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(run.path, held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(RunError, match=f"held by process {holder.pid}"), run.locked():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with run.locked():
        pass


def test_an_edited_config_is_named_with_its_mend(config):
    run = Run.start(config)
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("budget: 120", "budget: 999"))
    with pytest.raises(InputError, match=r"config\.yaml was edited or damaged .*`nas doctor .* --repair` restores it"):
        Run.open(run.path)


def test_the_config_of_a_run_is_an_experiment_file_of_its_own(config):
    run = Run.start(config)
    assert load_config(run.path / "config.yaml") == config
