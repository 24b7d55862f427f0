"""Fleets: the few networks that serve several devices best, each device within its budgets.

Maintaining one network for each device is the most accurate and the most work; one network for all has to fit the
tightest budget. Between the two, for every number of networks, is the fleet that loses least: the k-median problem
(Hakimi, Operations Research 13(3), 1965) with devices as clients, networks as facilities, and the accuracy that a
device loses against its own best network as distance. Solved exactly, as a mixed-integer linear program.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import InputError
from nas.front import Front, FrontPoint
from nas.objectives import METRICS, Constraint
from nas.pareto import non_dominated
from nas.pick import within_budgets
from search_spaces.checksum import write_json

FORMAT = 1
"""Version of fleet.json."""

_EXAMPLE = "'phone: latency_ms <= 2, share 0.7'"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SAME = 1e-9  # a fleet that gains less than this over a smaller one is no better


@dataclass(frozen=True)
class FleetDevice:
    """A device that is shipped to.

    Attributes:
        name: as people call it.
        budgets: what its network must keep, at least one.
        share: of the devices in use, or of whatever weighs them; None where all count the same.

    Example:
        >>> device = FleetDevice.parse("phone: latency_ms <= 2, parameters <= 1e6, share 0.7")
        >>> [budget.text for budget in device.budgets], device.share
        (['latency_ms@phone <= 2', 'parameters <= 1e+06'], 0.7)
    """

    name: str
    budgets: tuple[Constraint, ...]
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the device of ``NAME: BUDGET, BUDGET, share NUMBER``.

        A budget is a constraint; a metric of a device without ``@`` is that of the device ``NAME``, so that two
        products on one device are ``fast: latency_ms@phone <= 1`` and ``fine: latency_ms@phone <= 5``.

        Raises:
            InputError: the text has another form, or as `Constraint.parse`.
        """
        name, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or not _NAME.fullmatch(name):
            raise InputError(f"a device is written like {_EXAMPLE}, got {text!r}")
        budgets: list[Constraint] = []
        share: float | None = None
        for term in rest.split(","):
            word, _, number = term.strip().partition(" ")
            if word == "share":
                share = _share(name, number)
            else:
                budgets.append(Constraint.parse(_on_device(term.strip(), name)))
        if not budgets:
            raise InputError(f"device {name} needs a budget, such as {_EXAMPLE}, got {text!r}")
        return cls(name, tuple(budgets), share)


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < math.inf:
        raise InputError(f"device {name}: a share is a number above 0, as in {_EXAMPLE}, got {text!r}")
    return share


def _on_device(term: str, device: str) -> str:
    metric = term.split("<")[0].split(">")[0].strip()
    if metric in METRICS and METRICS[metric].on_device:
        return term.replace(metric, f"{metric}@{device}", 1)
    return term


@dataclass(frozen=True)
class Fleet:
    """Networks for all devices.

    Attributes:
        assigned: the network of each device, in the order of the devices.
        accuracy: share-weighted mean over the devices.
        regret: how much of it is lost against a network of its own for every device.
        error: half-width of the regret's 95 % interval, from the intervals of the accuracies involved; None where an
            accuracy has none.
    """

    assigned: tuple[FrontPoint, ...]
    accuracy: float
    regret: float
    error: float | None

    @property
    def models(self) -> tuple[FrontPoint, ...]:
        """The distinct networks, the most accurate first."""
        distinct = {point.key: point for point in self.assigned}
        return tuple(sorted(distinct.values(), key=lambda point: (-_accuracy(point), point.key)))

    @property
    def within_error(self) -> bool:
        """Whether the regret is no larger than its error: the accuracies do not tell it from none."""
        return self.regret <= _SAME or (self.error is not None and self.regret <= self.error)


@dataclass(frozen=True)
class FleetPlan:
    """The best fleet of every size; made by `plan_fleet`.

    Attributes:
        run: name of the run.
        evaluated: networks to choose from, those that break a constraint included.
        devices: with shares that sum to 1.
        fleets: by the number of networks allowed, up to one for each device; sizes that cannot serve all devices
            are missing. A fleet has fewer networks than allowed where more gain nothing.
    """

    run: str
    evaluated: int
    devices: tuple[FleetDevice, ...]
    fleets: Mapping[int, Fleet]

    @cached_property
    def own(self) -> Fleet:
        """A network of its own for every device."""
        return self.fleets[len(self.devices)]

    @cached_property
    def enough(self) -> int:
        """The least number of networks whose regret is within its error."""
        return next(size for size, fleet in sorted(self.fleets.items()) if fleet.within_error)

    def to_dict(self) -> dict[str, object]:
        """Returns the content of fleet.json."""
        return {
            "format": FORMAT,
            "run": self.run,
            "evaluated": self.evaluated,
            "devices": [
                {"name": device.name, "share": device.share, "budgets": [budget.text for budget in device.budgets]}
                for device in self.devices
            ],
            "least": min(self.fleets),
            "enough": self.enough,
            "fleets": [
                {
                    "allowed": size,
                    "models": [point.key for point in fleet.models],
                    "accuracy": fleet.accuracy,
                    "regret": fleet.regret,
                    "regret_error": fleet.error,
                    "within_error": fleet.within_error,
                    "assigned": {
                        device.name: point.key for device, point in zip(self.devices, fleet.assigned, strict=True)
                    },
                }
                for size, fleet in sorted(self.fleets.items())
            ],
            "networks": {point.key: point.to_dict() for fleet in self.fleets.values() for point in fleet.models},
        }

    def save(self, path: Path) -> None:
        """Writes fleet.json."""
        write_json(path, self.to_dict())


def plan_fleet(front: Front, devices: Sequence[FleetDevice]) -> FleetPlan:
    """Returns, for k = 1 to the number of devices, the best k of all evaluated networks.

    Each device gets the most accurate of them that keeps its budgets and the run's own constraints; best is the
    highest accuracy in the mean over the devices, weighted by their shares.

    Args:
        front: every evaluated network, with a value for all that is budgeted.
        devices: one or more, of different names; either all have a share or none has.

    Raises:
        InputError: no network keeps the budgets of a device (the message has the least available), a budget on a
            value that is not known, names that are not different, or shares for some devices only.
    """
    devices = _with_shares(devices)
    shares = np.array([device.share for device in devices], np.float64)
    points, allowed = _candidates(front, devices)
    accuracy = np.array([_accuracy(point) for point in points])
    own = allowed.argmax(0)
    fleets: dict[int, Fleet] = {}
    for size in range(1, len(devices) + 1):
        chosen = _best_models(accuracy, allowed, shares, size)
        if chosen is None:
            continue
        assigned = (allowed & chosen[:, None]).argmax(0)
        fleet = _fleet([points[row] for row in assigned], [points[row] for row in own], shares)
        smaller = fleets.get(size - 1)
        fleets[size] = smaller if smaller and smaller.regret <= fleet.regret + _SAME else fleet
    return FleetPlan(front.run, len(front.points), devices, fleets)


def _with_shares(devices: Sequence[FleetDevice]) -> tuple[FleetDevice, ...]:
    """Returns the devices with shares that sum to 1."""
    names = [device.name for device in devices]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a fleet needs devices of different names, got {', '.join(names) or 'none'}")
    without = [device.name for device in devices if device.share is None]
    if without and len(without) < len(devices):
        raise InputError(f"give every device a share or none; {', '.join(without)} has none")
    shares = [1.0 if device.share is None else device.share for device in devices]
    return tuple(
        FleetDevice(device.name, device.budgets, share / math.fsum(shares))
        for device, share in zip(devices, shares, strict=True)
    )


def _candidates(front: Front, devices: Sequence[FleetDevice]) -> tuple[list[FrontPoint], NDArray[np.bool_]]:
    """Returns the networks that can be part of a best fleet, the most accurate first, and who may run them.

    Only accuracy and the devices that a network fits decide. So a network is left out where another one is at least
    as accurate and fits at least the same devices; of equals the one that uses less of the budgets stays.

    Returns:
        n networks, and ``(n, devices)``: whether the network keeps all budgets of the device.
    """
    fitting: list[set[str]] = []
    for device in devices:
        try:
            fitting.append({point.key for point in within_budgets(front, device.budgets)})
        except InputError as error:
            raise InputError(f"device {device.name}: {error}") from None
    points = sorted(
        (point for point in front.points if any(point.key in keys for keys in fitting)),
        key=lambda point: (-_accuracy(point), _spent(point, devices), point.key),
    )
    allowed = np.array([[point.key in keys for keys in fitting] for point in points])
    losses = np.column_stack([[-_accuracy(point) for point in points], ~allowed])
    kept = np.flatnonzero(non_dominated(losses))
    _, first = np.unique(losses[kept], axis=0, return_index=True)
    kept = np.sort(kept[first])
    return [points[row] for row in kept], allowed[kept]


def _spent(point: FrontPoint, devices: Sequence[FleetDevice]) -> float:
    """The sum over all upper budgets of the share that a network uses."""
    bounds = [budget for device in devices for budget in device.budgets if budget.at_most and budget.bound > 0]
    return math.fsum(point.values[budget.objective.name].value / budget.bound for budget in bounds)


def _best_models(
    accuracy: NDArray[np.float64], allowed: NDArray[np.bool_], shares: NDArray[np.float64], size: int
) -> NDArray[np.bool_] | None:
    """Returns which networks to choose, at most ``size``; None where no so few serve all devices.

    The integer program of the k-median problem: a variable for each network (chosen or not) and one for each device
    and network it may run (the share of the device that the network serves; at an optimum 0 or 1).

    Args:
        accuracy: ``(n,)``.
        allowed: ``(n, devices)``; every device may run some network.
        shares: ``(devices,)``.
        size: at least 1.

    Returns:
        ``(n,)`` mask.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, vstack

    networks, devices = allowed.shape
    network, device = np.nonzero(allowed)
    pairs = np.arange(len(network))
    best = accuracy[allowed.argmax(0)]
    cost = np.concatenate([np.zeros(networks), shares[device] * (best[device] - accuracy[network])])
    columns = networks + len(pairs)
    ones = np.ones(len(pairs))
    served = coo_array((ones, (device, networks + pairs)), shape=(devices, columns))
    only_by_chosen = coo_array(
        (np.concatenate([ones, -ones]), (np.tile(pairs, 2), np.concatenate([networks + pairs, network]))),
        shape=(len(pairs), columns),
    )
    chosen = coo_array((np.ones(networks), (np.zeros(networks, int), np.arange(networks))), shape=(1, columns))
    low = np.concatenate([np.ones(devices), np.full(len(pairs) + 1, -np.inf)])
    high = np.concatenate([np.ones(devices), np.zeros(len(pairs)), [size]])
    solved = milp(
        cost,
        integrality=np.concatenate([np.ones(networks), np.zeros(len(pairs))]),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(vstack([served, only_by_chosen, chosen]).tocsc(), low, high),
        options={"mip_rel_gap": 0.0},
    )
    if solved.status == 2:
        return None
    assert solved.status == 0, solved.message  # every other program of this form has an optimum
    mask: NDArray[np.bool_] = solved.x[:networks] > 0.5
    return mask


def _fleet(assigned: Sequence[FrontPoint], own: Sequence[FrontPoint], shares: NDArray[np.float64]) -> Fleet:
    """Judges an assignment; ``own`` is the best network of each device."""
    accuracy = float(shares @ [_accuracy(point) for point in assigned])
    # The regret is a sum over networks of weight times accuracy; the errors of different networks are taken as
    # independent, which is cautious, as all were found on the same images.
    weights: dict[str, float] = {}
    for share, gained, lost in zip(shares.tolist(), own, assigned, strict=True):
        weights[gained.key] = weights.get(gained.key, 0.0) + share
        weights[lost.key] = weights.get(lost.key, 0.0) - share
    points = {point.key: point for point in (*own, *assigned)}
    regret = math.fsum(weight * _accuracy(points[key]) for key, weight in weights.items())
    return Fleet(tuple(assigned), accuracy, max(regret, 0.0), _error(points, weights))


def _error(points: Mapping[str, FrontPoint], weights: Mapping[str, float]) -> float | None:
    squares = []
    for key, weight in weights.items():
        value = points[key].values["accuracy"]
        if value.lower is None or value.upper is None:
            return None
        squares.append((weight * (value.upper - value.lower) / 2) ** 2)
    return math.sqrt(math.fsum(squares))


def _accuracy(point: FrontPoint) -> float:
    return point.values["accuracy"].value
