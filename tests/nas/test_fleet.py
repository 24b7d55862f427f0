"""The best few networks for several devices, against brute force over all sets of networks."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import InputError
from nas.fleet import FleetDevice, FleetPlan, plan_fleet
from nas.front import Front, FrontPoint
from nas.objectives import Constraint, Value
from tests.nas.front_example import front_of, network

NAMES = ("accuracy", "latency_ms@cpu", "latency_ms@npu")
# accuracy, latency on cpu, on npu: 1 is the only one that is fast on both; 4 is dominated and fits most
ROWS = [(0.80, 1.0, 4.0), (0.85, 2.0, 2.0), (0.90, 9.0, 1.0), (0.95, 4.0, 9.0), (0.84, 2.0, 2.0)]
FRONT = front_of(ROWS, NAMES)
DEVICES = ("cpu: latency_ms <= 4, share 3", "npu: latency_ms <= 2, share 1")


def plan(*devices: str, front: Front = FRONT) -> FleetPlan:
    return plan_fleet(front, [FleetDevice.parse(text) for text in devices])


def numbers(points: tuple[FrontPoint, ...]) -> list[int]:
    return [int(point.architecture["resolution"]) - 8 for point in points]


def test_one_network_serves_all_and_more_serve_each_device_best() -> None:
    found = plan(*DEVICES)
    assert [device.share for device in found.devices] == [0.75, 0.25]
    one, two = found.fleets[1], found.fleets[2]
    assert (numbers(one.assigned), numbers(two.assigned)) == ([1, 1], [3, 2])
    assert two.accuracy == pytest.approx(0.75 * 0.95 + 0.25 * 0.90)
    assert one.regret == pytest.approx(0.75 * 0.10 + 0.25 * 0.05)
    assert (two.regret, found.own) == (0, two)
    assert numbers(two.models) == [3, 2]


def test_without_shares_all_devices_count_the_same() -> None:
    assert [device.share for device in plan("cpu: latency_ms <= 4", "npu: latency_ms <= 2").devices] == [0.5, 0.5]


def test_a_share_decides_who_gets_the_better_network() -> None:
    texts = ["a: latency_ms@cpu <= 1", "b: latency_ms@cpu <= 2", "c: latency_ms@cpu <= 4"]
    shares = {"1 8 1": [0, 1, 1], "1 1 8": [0, 0, 3]}
    for given_shares, expected in shares.items():
        devices = [f"{text}, share {share}" for text, share in zip(texts, given_shares.split(), strict=True)]
        assert numbers(plan(*devices).fleets[2].assigned) == expected


def test_several_budgets_of_a_device_hold_together() -> None:
    assert numbers(plan("both: latency_ms@cpu <= 4, latency_ms@npu <= 4").fleets[1].assigned) == [1]


def test_sizes_that_cannot_serve_all_devices_are_left_out() -> None:
    found = plan("cpu: latency_ms <= 1", "npu: latency_ms <= 1")
    assert (list(found.fleets), found.to_dict()["least"]) == ([2], 2)


def test_more_networks_than_are_of_use_are_not_named() -> None:
    found = plan("a: latency_ms@cpu <= 4", "b: latency_ms@cpu <= 5", "c: latency_ms@cpu <= 9")
    assert [numbers(fleet.models) for fleet in found.fleets.values()] == [[3], [3], [3]]
    assert found.enough == 1


def test_the_regret_has_the_error_of_the_accuracies_that_differ() -> None:
    found = plan(*DEVICES)
    # Each accuracy of the example is known to 0.01. One network serves both instead of two, so that the accuracies
    # of 3 (weight .75), 2 (.25) and 1 (-1) take part.
    assert found.fleets[1].error == pytest.approx(0.01 * (0.75**2 + 0.25**2 + 1) ** 0.5)
    assert not found.fleets[1].within_error
    assert (found.own.error, found.own.within_error) == (0, True)
    assert found.enough == 2


def test_a_regret_within_its_error_is_told() -> None:
    front = front_of([(0.900, 1.0), (0.905, 2.0), (0.95, 5.0)])
    texts = ["a: latency_ms@cpu <= 1", "b: latency_ms@cpu <= 2", "c: latency_ms@cpu <= 5"]
    found = plan(*texts, front=front)
    assert [fleet.within_error for fleet in found.fleets.values()] == [False, True, True]
    assert found.enough == 2


def test_accuracies_without_an_interval_leave_the_error_unknown() -> None:
    exact = [
        (point.architecture, {name: Value(value.value, value.source) for name, value in point.values.items()})
        for point in FRONT.points
    ]
    found = plan(*DEVICES, front=Front.of("exact", FRONT.objectives, [], exact))
    assert [fleet.error for fleet in found.fleets.values()] == [None, None]
    assert found.enough == 2


def test_among_equally_good_networks_the_cheapest_is_taken() -> None:
    front = front_of([(0.9, 2.0), (0.9, 1.5), (0.9, 1.9)])
    assert numbers(plan("cpu: latency_ms <= 2", front=front).fleets[1].assigned) == [1]


def test_a_network_that_breaks_a_constraint_of_the_run_is_not_taken() -> None:
    front = front_of(ROWS, NAMES, constraints=["latency_ms@npu <= 5"])
    assert numbers(plan("cpu: latency_ms <= 4", front=front).fleets[1].assigned) == [1]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["cpu: latency_ms <= 0.5"], rf"device cpu: no network .* <= 0\.5; the nearest has 1 \({network(0).key}\)"),
        (["cpu"], r"a device is written like 'phone: latency_ms <= 2, share 0\.7', got 'cpu'"),
        (["my phone: latency_ms <= 2"], "a device is written like"),
        (["cpu: share 2"], "device cpu needs a budget"),
        (["cpu: latency_ms <= 2, share none"], "device cpu: a share is a number above 0.*got 'none'"),
        (["cpu: latency_ms <= 2, share -1"], "a share is a number above 0"),
        (["cpu: latency <= 2"], "did you mean 'latency_ms'"),
        (["cpu: latency_ms < 2"], "a constraint is 'metric <= number'"),
        (["dsp: latency_ms <= 2"], "device dsp: run example knows no latency_ms@dsp; it knows"),
        (["cpu: latency_ms <= 2", "cpu: latency_ms <= 4"], "devices of different names, got cpu, cpu"),
        (["cpu: latency_ms <= 2, share 1", "npu: latency_ms <= 4"], "a share or none; npu has none"),
        ([], "devices of different names, got none"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_sentence_with_its_mend(texts: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        plan(*texts)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Front, list[FleetDevice]]:
    levels = st.integers(1, 4).map(float)
    count = draw(st.integers(1, 4))
    names = [f"latency_ms@d{number}" for number in range(count)]
    accuracies = st.sampled_from([0.5, 0.6, 0.61, 0.7, 0.8])
    rows = draw(st.lists(st.tuples(accuracies, *[levels] * count), min_size=1, max_size=9))
    devices = [
        FleetDevice(f"d{number}", (Constraint.parse(f"{name} <= {draw(levels)}"),), draw(st.floats(0.1, 10)))
        for number, name in enumerate(names)
    ]
    return front_of(rows, ("accuracy", *names)), devices


@given(problems())
def test_every_fleet_is_as_good_as_the_best_of_all_sets(problem: tuple[Front, list[FleetDevice]]) -> None:
    front, devices = problem
    fits = {
        device.name: {
            point.key
            for point in front.points
            if point.values[f"latency_ms@{device.name}"].value <= device.budgets[0].bound
        }
        for device in devices
    }
    if not all(fits.values()):
        with pytest.raises(InputError, match="the nearest has"):
            plan_fleet(front, devices)
        return
    found = plan_fleet(front, devices)
    total = sum(device.share or 0 for device in devices)

    def value(models: tuple[FrontPoint, ...]) -> float:
        best = [
            max((p.values["accuracy"].value for p in models if p.key in fits[device.name]), default=-100.0)
            for device in devices
        ]
        return sum((device.share or 0) / total * accuracy for device, accuracy in zip(devices, best, strict=True))

    own = value(front.points)
    for size in range(1, len(devices) + 1):
        best = max(value(models) for models in combinations(front.points, min(size, len(front.points))))
        if best < 0:
            assert size not in found.fleets
            continue
        fleet = found.fleets[size]
        assert fleet.accuracy == pytest.approx(best, abs=1e-7)
        assert fleet.regret == pytest.approx(own - best, abs=1e-7)
        assert len(fleet.models) <= size
        for device, point in zip(devices, fleet.assigned, strict=True):
            assert point.key in fits[device.name]
    assert found.own.regret == 0


def test_ten_devices_and_thousands_of_networks_are_solved_exactly() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    names = [f"latency_ms@d{number}" for number in range(10)]
    latencies = np.exp(rng.normal(0, 1, (3000, 1)) + rng.normal(0, 0.3, (3000, 10)))
    accuracies = 0.9 - 0.1 / (1 + latencies.mean(1)) + rng.normal(0, 0.005, 3000)
    front = front_of(np.column_stack([accuracies, latencies]).tolist(), ("accuracy", *names))
    bounds = np.quantile(latencies, np.linspace(0.05, 0.95, 10))
    found = plan_fleet(
        front,
        [FleetDevice(f"d{n}", (Constraint.parse(f"{name} <= {bounds[n]}"),)) for n, name in enumerate(names)],
    )
    regrets = [fleet.regret for fleet in found.fleets.values()]
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] == 0
    fits = np.column_stack([latencies[:, n] <= bounds[n] for n in range(10)])
    alone = accuracies[fits.all(1)].max()  # one network: the best that fits everywhere
    assert found.fleets[1].accuracy == pytest.approx(alone)
    own = np.where(fits, accuracies[:, None], 0).max(0)
    pairs = [np.where(fits[row], accuracies[row], 0) for row in np.argsort(-accuracies)]
    everywhere = [pair for pair in pairs if (pair > 0).all()]
    best = max(np.maximum(wide, pair).mean() for wide in everywhere[:1] for pair in pairs)
    assert found.fleets[2].accuracy >= best - 1e-9  # one that fits everywhere, and any other
    assert found.own.accuracy == pytest.approx(own.mean())
