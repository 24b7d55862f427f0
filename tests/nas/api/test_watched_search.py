"""`nas search` with a mirror and TensorBoard: the whole verb, small."""

import json
from pathlib import Path

import optuna
import pytest

from nas.cli import run as nas
from search_spaces.file_lock import hold

DIGITS = str(Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml")


@pytest.mark.slow
def test_a_search_is_mirrored_and_tracked_where_the_experiment_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    overrides = [
        "name=w", f"runs_dir={tmp_path}", "accuracy.epochs=1", "objectives=[accuracy, macs]", "search.budget=6",
        "search.population=4", "ray.executor=serial", "tracking=[tensorboard]",
        f"search.mirror=sqlite:///{tmp_path}/w/optuna.db",
    ]  # fmt: skip
    assert nas(["search", DIGITS, *overrides, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluated"] == 6
    hold(tmp_path / "w" / "mirror.lock", wait=True).close()  # where the mirror is still catching up
    study = optuna.load_study(study_name="w", storage=f"sqlite:///{tmp_path}/w/optuna.db")
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 6
    (events,) = (tmp_path / "w" / "tensorboard").iterdir()
    assert b"search/hypervolume" in events.read_bytes()
