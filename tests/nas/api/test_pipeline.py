import shutil
from pathlib import Path

import pytest

from nas import api
from nas.config import SearchConfig, load_config
from nas.errors import InputError, RunError
from nas.run import Run
from nas.search.ledger import Ledger
from tests.nas.search.small import Small
from tests.nas.test_config import DIGITS


def searched(path: Path, evaluations: int) -> None:
    """Leaves a ledger with so many results in a run directory."""
    Small(path, budget=evaluations, sampler="random").run()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = api.start(DIGITS, (f"runs_dir={tmp_path}", "search.budget=6"))
    searched(run.path, 6)
    return run


def budget(run: Run) -> SearchConfig:
    return Run.open(run.path).config.search


def test_a_run_is_resumed_by_its_directory(run: Run) -> None:
    assert api.start(run.path) == run
    assert api.start(run.path, ("search.budget=9",)).config.search.budget == 9
    assert budget(run).budget == 9


def test_a_copied_run_is_resumed_where_it_is(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(run.path, copy)
    assert api.start(copy, more=4).path == copy
    assert Run.open(copy).config.search.budget == 10
    assert budget(run).budget == 6


def test_more_counts_from_the_evaluations_there_are(run: Run) -> None:
    assert api.start(run.path, more=4).config.search.budget == 10
    assert budget(run).budget == 10


def test_more_works_with_the_experiment_file_too(run: Run) -> None:
    started = api.start(DIGITS, (f"runs_dir={run.config.runs_dir}",), more=4)
    assert (started, budget(run).budget) == (Run.open(run.path), 10)


def test_a_repeated_more_counts_once_until_it_is_met(run: Run) -> None:
    for evaluations in (6, 8):
        searched(run.path, evaluations)
        api.start(run.path, more=4)
        assert budget(run).budget == 10
    api.start(run.path, more=5)
    assert budget(run).budget == 11, "another number replaces the one that was not met"
    searched(run.path, 11)
    api.start(run.path, more=4)
    assert budget(run).budget == 15


def test_a_search_that_was_stopped_early_is_extended_from_there(run: Run) -> None:
    api.start(run.path, ("search.budget=100",))
    assert api.start(run.path, more=4).config.search.budget == 10


@pytest.mark.parametrize(
    ("overrides", "more", "sentence"),
    [
        (("name=other",), None, "keeps its name and place: give its experiment YAML"),
        (("runs_dir=other",), None, "keeps its name and place"),
        (("search.budget=9",), 4, "--more and search.budget exclude each other"),
        ((), 0, "more must be at least 1 evaluation, got 0"),
        (("seed=3",), 4, "another `seed`"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    run: Run, overrides: tuple[str, ...], more: int | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        api.start(run.path, overrides, more)
    assert Run.open(run.path) == run


def test_nothing_is_extended_before_it_was_searched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing was searched in .*digits yet"):
        api.start(DIGITS, (f"runs_dir={tmp_path}",), more=4)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="is no run directory"):
        api.start(tmp_path, more=4)


def test_a_run_that_is_held_is_not_changed(run: Run) -> None:
    with run.locked(), pytest.raises(RunError, match="is held by process"):
        api.start(run.path, more=4)
    assert budget(run).budget == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_finished_search_is_extended_for_real(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    overrides = (f"runs_dir={tmp_path}", "accuracy.epochs=1", "data.max_images=200", "objectives=[accuracy,macs]")
    overrides += ("search.budget=4", "search.population=4", "ray.executor=serial")
    if kind == "postgresql":
        # This server takes any password.
        url = request.getfixturevalue("postgres_url").replace("hwnas@", "hwnas:geheim@")
        overrides += (f"name={tmp_path.name}", f"ledger={url}")
    run = api.start(DIGITS, overrides)
    assert api.search(run)["evaluated"] == 4
    with Ledger.of(run) as ledger:
        before = ledger.candidates()
    found = api.search(api.start(run.path, more=3))
    assert (found["kind"], found["evaluated"]) == ("budget", 7)
    with Ledger.of(run) as ledger:
        assert ledger.candidates()[: len(before)] == before
    assert len(api.front(run.path).points) == 7
    assert load_config(run.path).search.extended_from == 4
    assert run.ledger_path.exists() == (kind == "sqlite")
    status = Run.open(run.path).status()["stages"]
    assert isinstance(status, dict)
    assert (
        status["search"]["text"] == "the budget of 7 evaluations is met; 7 evaluated, 0 not allowed, 0 failed, 0 late"
    )
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"geheim" in path.read_bytes()]
    if kind == "postgresql":
        with pytest.raises(
            InputError, match=r"ledger of .* was started outside the run directory: choose another name"
        ):
            api.start(run.path, ("ledger=null",))
