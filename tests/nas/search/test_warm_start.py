import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nas import api
from nas.errors import InputError
from nas.objectives import Objective
from nas.search.problem import SearchProblem
from nas.search.warm_start import warm_start
from search_spaces.published import published
from search_spaces.space import load_space
from tests.nas.search.small import Small, evaluations
from tests.nas.test_config import DIGITS

TINY = load_space("tiny")


def problem(space: str = "tiny") -> SearchProblem:
    return SearchProblem(load_space(space), (Objective.parse("accuracy"), Objective.parse("macs")))


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run that was searched before."""
    run = api.start(DIGITS, (f"runs_dir={tmp_path}", "name=earlier"))
    Small(run.path, budget=8, sampler="random", seed=9).run()
    return run.path


def test_published_networks_are_those_that_the_space_has(caplog: pytest.LogCaptureFixture) -> None:
    (network,) = warm_start(["published"], problem("efficientnet"))
    space = load_space("efficientnet")
    source = published("efficientnet_b0")
    own = [layer for layer in space.layers(network) if layer.name.startswith("stage")]
    assert [(x.op, x.in_channels, x.out_channels, x.kernel, x.stride) for x in own] == [
        (x.op, x.in_channels, x.out_channels, x.kernel, x.stride) for x in source.layers if x.name.startswith("stage")
    ]
    with pytest.raises(InputError, match="published gives no architecture of the space 'tiny': remove it, or give"):
        warm_start(["published"], problem())


def test_an_earlier_run_gives_what_it_evaluated_its_front_first(earlier: Path) -> None:
    small = Small(earlier, budget=8)
    with small.ledger() as ledger:
        candidates = ledger.candidates()
    points = {c.architecture.key: (c.metrics["accuracy"], c.costs["macs"].value) for c in candidates}
    found = [architecture.key for architecture in warm_start([str(earlier)], problem())]
    assert sorted(found) == sorted(points)
    on_front = [
        not any(a >= accuracy and m <= macs and (a, m) != (accuracy, macs) for a, m in points.values())
        for accuracy, macs in map(points.__getitem__, found)
    ]
    assert on_front == sorted(on_front, reverse=True)
    assert 0 < sum(on_front) < 8


def test_an_architecture_that_several_entries_give_comes_once(earlier: Path) -> None:
    text = warm_start([str(earlier)], problem())[3].text
    found = warm_start([text, str(earlier), str(earlier)], problem())
    assert len(found) == 8
    assert found[0].text == text


def test_what_the_space_has_not_is_left_out_and_told(earlier: Path, caplog: pytest.LogCaptureFixture) -> None:
    largest = max(TINY.table.resolution)
    table = TINY.table.model_copy(update={"resolution": (largest, largest * 2)})
    narrowed = SearchProblem(type(TINY)(table), problem().objectives)
    found = warm_start([str(earlier)], narrowed)
    assert 0 < len(found) < 8
    assert {architecture["resolution"] for architecture in found} == {largest}
    assert f"{8 - len(found)} of the 8 architectures of {earlier} are not in the space tiny" in caplog.text


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("nowhere", "'nowhere' is neither 'published', nor the directory of a run, nor an architecture such as"),
        ("tiny:r1", "tiny:r1 gives no architecture of the space 'tiny'"),
        ("tiny:x", "not a token of an architecture: 'x'"),
        (".", ". is no run directory"),
    ],
)
def test_a_wrong_entry_is_one_sentence(
    entry: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(sentence)):
        warm_start([entry], problem())


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_a_warm_start_is_evaluated_here_first_and_a_kill_in_between_changes_nothing(
    tmp_path: Path, sampler: str
) -> None:
    rng = np.random.default_rng(5)
    first = [TINY.sample(rng) for _ in range(5)]
    entries = tuple(architecture.text for architecture in first)
    whole, parts = (Small(tmp_path / n, sampler=sampler, warm_start=entries, budget=14) for n in ("whole", "parts"))
    whole.folder.mkdir()
    parts.folder.mkdir()
    whole.run()
    assert [key for key, _ in whole.candidates()][:5] == [architecture.key for architecture in first]
    assert evaluations(whole.folder).total() == 14
    for crossed in (2, 9):
        left = iter(range(crossed))

        def dies(point: str, left: Iterator[int] = left) -> None:
            if point == "result:told" and next(left, None) is None:
                raise MemoryError

        with pytest.raises(MemoryError):
            parts.run(fault=dies)
    parts.run()
    assert (parts.candidates(), parts.front()) == (whole.candidates(), whole.front())


def test_another_warm_start_is_another_search(tmp_path: Path) -> None:
    Small(tmp_path, warm_start=(TINY.smallest().text,), budget=2).run()
    with pytest.raises(InputError, match=r"another warm_start .*now None"):
        Small(tmp_path, budget=3).run()


def test_the_run_that_a_search_started_from_may_be_deleted(earlier: Path, tmp_path: Path) -> None:
    small = Small(tmp_path, warm_start=(str(earlier),), budget=3)
    small.run()
    earlier.rename(tmp_path / "elsewhere")
    small.with_budget(10).run()
    with Small(tmp_path / "elsewhere").ledger() as ledger:
        known = {candidate.architecture.key for candidate in ledger.candidates()}
    assert {key for key, _ in small.candidates()[:8]} == known
