"""Measures the product's sample data set: networks of `tiny` on this machine, two runtimes, two precisions.

    python experiments/sample_data/measure.py

One measurement set for each of the four device profiles, and DATA_CARD.md, are written beside this script. The command
can be stopped at any moment and repeated: rows that are there are kept, and only what is missing, or was refused, is
measured again. It ends with exit status 1 where the linter finds something, a network is on both sides of the split, or
too few rows are usable. 512 networks take 15 minutes to two hours on two cores. Nothing else should run there: a
disturbed row is refused and costs time.
"""

import argparse
import hashlib
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latency_predictors.environment import Environment
from latency_predictors.finding import Finding
from latency_predictors.lint import lint
from latency_predictors.measurement import SCHEMA, DeviceProfile, Measurement
from latency_predictors.protocol import PROTOCOL_VERSION
from latency_predictors.session import measure_networks
from latency_predictors.store import MeasurementSet
from latency_predictors.table_file import read_table
from nas.api.latency import Network, distinct_networks
from search_spaces.atomic import write_text
from search_spaces.space import load_space

HERE = Path(__file__).parent
PROFILES = ("local/onnxruntime:fp32", "local/onnxruntime:int8", "local/litert:fp32", "local/litert:int8")
HELD_OUT_OF = 5
"""One network in so many is for tests."""
LICENCE = "Apache-2.0, as the product"
COLUMNS = {
    "space": "name of the search space",
    "arch": "the architecture in JSON, as `Architecture.from_json` reads it",
    "arch_id": "its key; the same network has the same key in every file",
    "network_hash": "of the layers; equal layers are equal networks",
    "device": "where it ran; `local/RUNTIME` is the machine below",
    "runtime": "inference runtime",
    "runtime_version": "its version",
    "precision": "of weights and feature maps",
    "threads": "of the runtime, pinned",
    "batch_size": "images at a time, always 1",
    "kind": "`measured`: none is estimated or summed",
    "latency_ms": "milliseconds of one inference: geometric mean of the block medians; null where no block counts",
    "lower_ms": "lower end of its 95 % interval",
    "upper_ms": "upper end",
    "p50_ms": "median over blocks of their medians",
    "p90_ms": "median over blocks of their 90th percentiles",
    "block_medians_ms": "of each process launch that counts, in the order measured",
    "first_inference_ms": "the first inference after loading",
    "load_ms": "reading the file and preparing to run it",
    "peak_memory_mb": "resident memory (10^6 bytes) that the network added at its peak",
    "energy_mj": "millijoules of one inference; null: not asked for",
    "energy_source": "the counter that told them; null likewise",
    "quiet_share": "share of the time in which the core ran undisturbed",
    "reference_ms": "latency of the frozen reference network in the same blocks",
    "model_bytes": "size of the model file",
    "preset": "how carefully it was measured",
    "protocol_version": "of the measuring protocol (docs/devices.md)",
    "seed": "of random weights and of the order of measuring",
    "environment": "processor, cores, system, Python and runtime, in JSON",
    "environment_hash": "of the environment; rows with different ones are not interchangeable",
    "measured_at": "end of the last block, UTC",
    "verdict": "accepted, noisy (half-width of the interval 2 to 5 %) or refused (do not learn from it)",
    "reason": "why it is not accepted",
}
"""What every column means, for the card."""


def held_out(key: str) -> bool:
    """Returns whether a network is for tests, by its key alone: the same on every device."""
    return int(key.rpartition("-")[2], 16) % HELD_OUT_OF == 0


def measure(networks: Sequence[Network], files: dict[DeviceProfile, Path], options: argparse.Namespace) -> None:
    """Measures what is missing, profile by profile."""
    for profile, file in files.items():
        rows = measure_networks(
            networks, profile, preset=options.preset, seed=options.seed, store=MeasurementSet(file), progress=tell
        )
        print(f"{profile.id}: {sum(row.usable for row in rows)} usable", flush=True)


def tell(done: int, total: int, text: str) -> None:
    """Shows on the standard error where a profile stands."""
    print(f"\r{done}/{total} {text}\033[K", end="\n" if done == total else "", file=sys.stderr, flush=True)


def leaks(usable: Sequence[Measurement]) -> list[str]:
    """Returns the hashes of networks that are on both sides of the split, whatever their keys."""
    sides = {side: {row.network_hash for row in usable if held_out(row.key) == side} for side in (False, True)}
    return sorted(sides[False] & sides[True])


def card(
    files: dict[DeviceProfile, Path], findings: dict[Path, list[Finding]], options: argparse.Namespace
) -> tuple[str, list[str]]:
    """Returns the data card and a sentence for everything that is wrong with the data."""
    linted = [f"{file.name}: {finding.message}" for file, found in findings.items() for finding in found]
    wrong = linted.copy()
    table, hashes = [], []
    environments: dict[str, Environment] = {}
    everything: list[Measurement] = []
    for profile, file in files.items():
        store = MeasurementSet(file)
        rows, usable = store.read(), store.read_usable()
        everything += usable
        verdicts = Counter(row.verdict for row in rows)
        values = np.array([row.latency_ms for row in usable])
        environments |= {row.environment.hash: row.environment for row in rows}
        hashes.append(f"    {hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")
        test = sum(held_out(row.key) for row in usable)
        spread = f"{values.min():.4g} to {values.max():.4g}" if len(usable) else "-"
        half = f"{np.median([row.half_width for row in usable]):.2%}" if usable else "-"
        table.append(
            f"| {file.name} | {profile.id} | {len(usable)} | {len(usable) - test} / {test} | {verdicts['noisy']} | "
            f"{verdicts['refused']} | {spread} | {half} |"
        )
        if len(usable) < options.least * options.count:
            wrong.append(f"{file.name}: {len(usable)} of {options.count} networks are usable: run the command again")
    leaking = leaks(everything)
    wrong += [f"networks on both sides of the split: {', '.join(leaking)}"] if leaking else []
    command = shlex.join(["python", "experiments/sample_data/measure.py", *sys.argv[1:]])
    text = f"""# Data card: latencies of `{options.space}` networks on one machine

{options.count} networks of the search space `{options.space}` (the smallest, the largest, the others drawn at random,
seed {options.seed}), each with random weights, measured one image at a time under measuring protocol
{PROTOCOL_VERSION}, preset `{options.preset}` (docs/devices.md). A Parquet file for each device profile;
every row that was measured is there, refused ones with their reason.

| file | profile | usable networks | to learn / to test | rows noisy | refused | latency (ms) | median half-width |
|---|---|---|---|---|---|---|---|
{chr(10).join(table)}

- Licence: {LICENCE}.
- Made by: `{command}`, {platform.system()}; it can be repeated, and goes on.
- To learn and to test: a network is held out where the hexadecimal part of its key, as a number, is divisible by
  {HELD_OUT_OF}; so it is on the same side in every file.
- Leakage: {f"{len(leaking)} networks are on both sides" if leaking else "no network, by its layers, is on both sides"}.
- Linter: {"; ".join(linted) or "no finding"}.
- Not in it: images, labels or accuracies; energy; other machines, runtimes or numbers of threads. A predictor fitted
  to it tells this machine's latencies and no other's.

## Machine

{
        chr(10).join(
            f"- {env.cpu}, {env.cores} cores, {env.machine}, {env.system}, Python {env.python}, {env.runtime}"
            for env in environments.values()
        )
    }

## Columns

{chr(10).join(f"- `{field.name}` ({field.type}): {COLUMNS[field.name]}" for field in SCHEMA)}

## Checksums (SHA-256)

{chr(10).join(hashes)}
"""
    return text, wrong


def main() -> None:
    """Measures what is missing, checks all, and writes the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--count", type=int, default=512, help="networks")
    parser.add_argument("--profiles", nargs="+", default=PROFILES, metavar="DEVICE:PRECISION")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=0.98, help="share of the networks that must be usable")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()

    split = [text.partition(":") for text in options.profiles]
    profiles = [DeviceProfile(device, precision or "fp32") for device, _, precision in split]
    files = {
        profile: options.out / f"{options.space}-{profile.device.replace('/', '-')}-{profile.precision}.parquet"
        for profile in profiles
    }
    measure(distinct_networks(load_space(options.space), options.count, options.seed), files, options)
    text, wrong = card(files, {file: lint(read_table(file)) for file in files.values()}, options)
    write_text(options.out / "DATA_CARD.md", text)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
