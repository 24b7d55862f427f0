"""`nas trust` on a real run of the tiny space, killed and repeated."""

import json
from pathlib import Path

import pytest

from nas import api
from nas.cli import run as nas
from nas.errors import InputError
from nas.run import Run
from nas.trust import RankingTrust
from search_spaces.checksum import read_json
from tests.nas.search.small import child, wait_until
from tests.nas.test_config import DIGITS

OVERRIDES = (
    "space={name: tiny, resolution: [8]}",
    "accuracy={method: supernet, epochs: 1, checkpoint_seconds: 0.000001}",
    "data={name: digits, max_images: 300}",
    "objectives=[accuracy, macs]",
    "constraints=[]",
    "search={sampler: random, budget: 8}",
    "ray.executor=serial",
)


def trust(path: Path) -> None:
    api.trust(path)


@pytest.mark.slow
def test_a_killed_trust_goes_on_and_trains_no_network_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = api.start(DIGITS, (f"runs_dir={tmp_path}", *OVERRIDES))
    with pytest.raises(InputError, match="search first"):
        api.trust(run.path)
    api.search(run)
    assert "statistically tied" not in (run.path / "front.html").read_text()
    weights = run.path / "trust"

    def done() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in weights.glob("*/*/network.safetensors")}

    process = child(trust, run.path)
    wait_until(lambda: len(done()) >= 3 and any(weights.glob("*/*/checkpoints/step-*.safetensors")))
    process.kill()
    process.join()
    before = done()
    committed = RankingTrust.load(run.trust_path)
    assert committed is not None
    assert not committed.complete
    assert api.doctor(run.path).healthy

    found = api.trust(run.path)
    assert found.complete
    assert len(found.networks) == 12
    assert {len(network.trained) for network in found.networks} == {2}
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    for network in committed.networks:
        (same,) = (one for one in found.networks if one.architecture == network.architecture)
        assert network.estimated == same.estimated
        assert network.trained.items() <= same.trained.items()
    front = {point.key: point for point in api.front(run.path).best}
    for network in found.networks:
        if network.on_front:
            assert network.estimated == front[network.architecture.key].values["accuracy"].value
    assert any(not network.on_front for network in found.networks)
    assert found.tie_text in (run.path / "front.html").read_text()
    assert (run.path / "trust.png").read_bytes().startswith(b"\x89PNG")
    assert {file.kind for file in api.doctor(run.path).files} >= {"trust", "trained network"}
    assert api.doctor(run.path).healthy

    written = run.trust_path.read_bytes()
    capsys.readouterr()
    assert nas(["trust", str(run.path), "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == read_json(run.trust_path)
    assert run.trust_path.read_bytes() == written, "nothing is trained again"
    assert "next: nas pick" in captured.err
    assert api.trust(run.path, count=13).networks[:12] == found.networks, "a larger count adds to it"
    with pytest.raises(InputError, match=r"made with another training .*remove trust.json and the folder trust"):
        api.trust(run.path, epochs=2)


@pytest.mark.slow
def test_trainings_can_be_shorter_than_the_supernets(tmp_path: Path) -> None:
    longer = ("accuracy={method: supernet, epochs: 2}", f"runs_dir={tmp_path}")
    run = api.start(DIGITS, (*OVERRIDES, *longer))
    api.search(run)
    found = api.trust(run.path, seeds=1, epochs=1)
    assert found.complete
    assert json.loads(found.depends_on["training"])["epochs"] == 1


@pytest.mark.parametrize(
    ("overrides", "arguments", "sentence"),
    [
        (("accuracy={method: stand_alone}",), (), "trains every candidate by itself"),
        ((), (8, 2), "count must be at least 12, got 8"),
        ((), (12, 0), "seeds must be at least 1, got 0"),
        ((), (12, 1, 0), "epochs must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trusted_is_said(
    tmp_path: Path, overrides: tuple[str, ...], arguments: tuple[int, ...], sentence: str
) -> None:
    run: Run = api.start(DIGITS, (f"runs_dir={tmp_path}", *OVERRIDES, *overrides))
    count, seeds, epochs = (*arguments, *(12, 2, None)[len(arguments) :])
    with pytest.raises(InputError, match=sentence):
        api.trust(run.path, count, seeds, epochs=epochs)
