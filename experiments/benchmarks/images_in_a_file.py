"""What do images in a file cost against images in memory: time to load, memory, batches a second?

A data set is loaded three times, each time by a process of its own with one thread of torch: into memory, decoded to a
file, and found there. Each then makes augmented batches of random rows as a training does, at the images' own
resolution, one after the other with the next one named; nothing is trained in between. Memory is the growth of the
process's peak (VmHWM of Linux) by loading, after everything was imported, and by the batches. A process of which the
system has the file in its cache is timed; a disk that has to be read is slower. Hashes of all processes must agree.

    python experiments/benchmarks/images_in_a_file.py --data DIR --json out.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy

import numpy as np  # noqa: E402
import torch  # noqa: E402
from csv_file import write_csv  # noqa: E402

from nas.config import DataConfig  # noqa: E402
from nas.data import load_data  # noqa: E402
from nas.training.images import TrainingImages  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "images_in_a_file_cpu.csv"
_WARM_UP = DataConfig()  # the digits: everything is imported


def peak_mb() -> float:
    """Returns the highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def measure(config: DataConfig, batch_size: int, batches: int) -> dict[str, object]:
    """Returns a row: what this process took for loading and for batches."""
    torch.set_num_threads(1)
    digits = load_data(_WARM_UP)
    TrainingImages.of(digits, augment=True, flip=False, device="cpu").batch(np.arange(8), np.random.default_rng(0)).at(
        8
    )
    before, started, used = peak_mb(), time.monotonic(), time.process_time()
    data = load_data(config)
    load_s, load_cpu_s, load_mb = time.monotonic() - started, time.process_time() - used, peak_mb() - before
    images = TrainingImages.of(data, augment=True, flip=True, device="cpu")
    order = np.random.default_rng(0).integers(0, len(images), (batches + 1, batch_size))
    images.batch(order[0], np.random.default_rng(0), ahead=order[1])
    started, used = time.monotonic(), time.process_time()
    for step in range(1, batches + 1):
        ahead = order[step + 1] if step < batches else None
        images.batch(order[step], np.random.default_rng(step), ahead=ahead).at(data.image_size[0])
    batches_s, batches_cpu_s = time.monotonic() - started, time.process_time() - used
    splits = (data.train, data.validation, data.test)
    return {
        "images": sum(map(len, splits)),
        "decoded_mb": round(sum(split.images.nbytes for split in splits) / 1e6, 1),
        "load_s": round(load_s, 2),
        "load_cpu_s": round(load_cpu_s, 2),
        "load_peak_mb": round(load_mb, 1),
        "all_peak_mb": round(peak_mb() - before, 1),
        "batch_size": batch_size,
        "images_per_s": round(batches * batch_size / batches_s),
        "images_per_cpu_s": round(batches * batch_size / batches_cpu_s),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "hashes": list(data.hashes.values()),
    }


def main() -> None:
    """Measures each way in a process of its own, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--source", choices=("parquet", "folder"), default="parquet")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        config = DataConfig.model_validate_json(options.child)
        print(json.dumps(measure(config, options.batch_size, options.batches)))
        return
    rows, hashes = [], []
    with tempfile.TemporaryDirectory(prefix="hwnas-images-") as cache:
        for way, memory_gb in (("in memory", 1e3), ("decoded to a file", 0.0), ("found in a file", 0.0)):
            config = DataConfig(name=options.source, path=options.data, memory_gb=memory_gb, cache=Path(cache))
            command = [sys.executable, __file__, *sys.argv[1:], "--child", config.model_dump_json()]
            row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            hashes.append(row.pop("hashes"))
            rows.append({"data": options.data.name, "way": way, **row})
            print(rows[-1])
    assert hashes[0] == hashes[1] == hashes[2]
    write_csv(RESULTS, rows)
    if options.json:
        options.json.write_text(json.dumps({"figures": {"rows": rows}, "reach": {}}, indent=1))


if __name__ == "__main__":
    main()
