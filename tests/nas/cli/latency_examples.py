"""Small tables of measurements, made for tests of commands."""

import json
from pathlib import Path

import numpy as np

import search_spaces
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding
from search_spaces.space import load_space
from tests.latency_predictors.roofline import roofline_ms

SAMPLE = Path(__file__).parents[3] / "experiments" / "sample_data"
DATA = Path(__file__).parents[4] / "shared" / "data" / "device_latency"


def write_table(path: Path, spoiled: bool = False) -> Path:
    """Writes 40 clean rows of one device; one of them in seconds where they are to be spoiled."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 3, (40, 4))
    values = np.exp(1 + 0.2 * vectors.sum(axis=1) + rng.normal(0, 0.02, 40))
    if spoiled:
        values[7] /= 1000
    rows = [
        {"arch": vector, "device": "phone", "latency_ms": value}
        for vector, value in zip(vectors.tolist(), values.tolist(), strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_fbnet(path: Path, count: int = 40) -> Path:
    """Writes a CSV of networks of the fbnet space in microseconds, on two devices; latency follows the arithmetic."""
    rng, public = np.random.default_rng(1), encoding("fbnet")
    lines = ["space,arch,device,latency_ms"]
    for _ in range(count):
        architecture = public.search_space.sample(rng)
        macs = network_cost(public.search_space.layers(architecture)).macs
        for device, speed in (("phone", 2e4), ("board", 1e4)):
            microseconds = macs / speed * np.exp(rng.normal(0, 0.01))
            lines.append(f'fbnet,"{list(public.encode(architecture))}",{device},{microseconds:.3f}')
    path.write_text("\n".join(lines) + "\n")
    return path


def write_own_space(folder: Path, devices: dict[str, float], count: int = 30) -> tuple[str, Path]:
    """Writes a space of one's own and JSON lines of networks of it; each device has a factor of its own."""
    own, table = folder / "own.yaml", folder / "t.jsonl"
    own.write_text(
        (Path(search_spaces.__file__).parent / "spaces" / "tiny.yaml").read_text().replace("tiny", "ours", 1)
    )
    space, rng = load_space(str(own)), np.random.default_rng(3)
    assert space.name == "ours"
    networks = [space.sample(rng) for _ in range(count)]
    values = roofline_ms([space.layers(network) for network in networks])
    rows = [
        {
            "arch": network.to_json(),
            "space": "ours",
            "device": name,
            "precision": "int8",
            "latency_ms": factor * value,
        }
        for network, value in zip(networks, values.tolist(), strict=True)
        for name, factor in devices.items()
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(own), table


def write_cells(path: Path, count: int = 120) -> Path:
    """Writes JSON lines of vectors of no known space, on six devices; each latency is a product of block costs."""
    rng = np.random.default_rng(2)
    vectors = np.unique(rng.integers(0, 4, (count, 6)), axis=0)
    common = rng.normal(0, 0.2, (6, 4))
    rows = []
    for device in ("a", "b_bs1", "b_bs32", "c", "d", "new"):
        own = common + rng.normal(0, 0.02, (6, 4))
        for vector in vectors.tolist():
            cost = sum(own[place, number] for place, number in enumerate(vector)) + rng.normal(0, 0.02)
            rows.append({"arch": vector, "device": device, "precision": "int8", "latency_ms": float(np.exp(2 + cost))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
