"""A program that speaks adb's commands, and the phone behind it: a folder, the host's shell, and LiteRT of the host.

It is not Android. What is real: every command is a process with its exit status, files are copied, the shell script
runs, and `benchmark_model` runs the .tflite file and prints in the format of LiteRT's program.
"""

import os
import shutil
import sys
from pathlib import Path

SERIAL = "4A1B0C-phone"
HANGING = b"hanging"
"""Content of a model that the phone never gets done with."""

ADB = """#!{python} -SE
import os, shutil, sys
folder = {folder!r}
words = sys.argv[1:]
state = open(folder + "/state").read()  # the phones: SERIAL<tab>STATE lines
if words[:1] == ["devices"] or words[2:3] == ["devices"]:
    print("List of devices attached\\n" + state)
    sys.exit()
assert words[0] == "-s", words
serial, command, words = words[1], words[2], words[3:]
states = dict(line.split("\\t") for line in state.splitlines())
if serial not in states:
    sys.exit(f"adb: device '{{serial}}' not found")
if states[serial] != "device":
    sys.exit(f"adb: device {{states[serial]}}.")
def here(text):
    return text.replace("/data/local/tmp", folder + "/data")
if command == "push":
    shutil.copyfile(words[0], here(words[1]))
    print(words[0] + ": 1 file pushed, 0 skipped.")
elif command == "shell":
    os.environ.pop("OMP_NUM_THREADS", None)  # GNU's nproc reads it
    os.environ["PATH"] = folder + "/bin:" + os.environ["PATH"]
    os.execvp("sh", ["sh", "-c", here(" ".join(words)).replace("/sys/devices", folder + "/sys")])
"""
BENCHMARK_MODEL = """#!{python}
import statistics, sys, time
start = time.perf_counter()
options = dict(word.removeprefix("--").split("=") for word in sys.argv[1:])
print("STARTING!")
if open(options["graph"], "rb").read() == {hanging!r}:
    time.sleep(1000)
from ai_edge_litert.interpreter import Interpreter
start = time.perf_counter()
try:
    interpreter = Interpreter(options["graph"], num_threads=int(options["num_threads"]))
    interpreter.allocate_tensors()
except ValueError as error:
    print("ERROR: Failed to load the model " + options["graph"])
    sys.exit(1)
init = (time.perf_counter() - start) * 1e6
def run(times, seconds):
    durations, end = [], time.perf_counter() + float(seconds)
    while len(durations) < int(times) or time.perf_counter() < end:
        start = time.perf_counter()
        interpreter.invoke()
        durations.append(round((time.perf_counter() - start) * 1e6))
    ordered = sorted(durations)
    pick = lambda share: ordered[int(len(ordered) * share / 100)]
    print(f"count={{len(durations)}} first={{durations[0]}} curr={{durations[-1]}} min={{ordered[0]}} "
          f"max={{ordered[-1]}} avg={{statistics.mean(durations):.3f}} std={{int(statistics.pstdev(durations))}} "
          f"p5={{pick(5)}} median={{pick(50)}} p95={{pick(95)}}")
    return durations
print("Initialized session in %.3fms." % (init / 1e3))
warm = run(options["warmup_runs"], options["warmup_min_secs"])
runs = run(options["num_runs"], options["min_secs"])
print(f"Inference timings in us: Init: {{init:.0f}}, First inference: {{warm[0]}}, Warmup (avg): "
      f"{{statistics.mean(warm):.6g}}, Inference (avg): {{statistics.mean(runs):.6g}}")
print("Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25")
"""
DUMPSYS = """#!/bin/sh
echo "IsStatusOverride: false"
echo "Thermal Status: $(cat {folder}/thermal)"
"""
GETPROP = """#!/bin/sh
case $1 in
  ro.product.manufacturer) echo Example;;
  ro.product.model) echo Phone 1;;
  ro.soc.model) echo SC1;;
  ro.build.version.release) echo 15;;
esac
"""


class Phone:
    """A phone that hangs on a wire; `bin` belongs first in PATH.

    Attributes:
        program: `benchmark_model` on the phone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.data = folder, folder / "host-bin", folder / "data"
        self.program = self.data / "benchmark_model"
        for made in (self.bin, self.data, folder / "bin", folder / "sys"):
            made.mkdir()
        self.say_state(f"{SERIAL}\tdevice")
        self.heat(0)
        values = {"python": sys.executable, "folder": str(folder), "hanging": HANGING}
        for path, text in (
            (self.bin / "adb", ADB.format(**values)),
            (self.program, BENCHMARK_MODEL.format(**values)),
            (folder / "bin" / "dumpsys", DUMPSYS.format(**values)),
            (folder / "bin" / "getprop", GETPROP),
        ):
            self.install(path, text)

    def install(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def say_state(self, lines: str) -> None:
        """Sets what ``adb devices`` lists."""
        (self.folder / "state").write_text(lines)

    def heat(self, status: int) -> None:
        """Sets Android's thermal status."""
        (self.folder / "thermal").write_text(str(status))

    def set_clocks(self, *khz: int) -> None:
        """Sets the greatest and the current clock of each core."""
        shutil.rmtree(self.folder / "sys")
        for cpu, clock in enumerate(khz):
            folder = self.folder / "sys/system/cpu" / f"cpu{cpu}" / "cpufreq"
            folder.mkdir(parents=True)
            for name in ("cpuinfo_max_freq", "scaling_cur_freq"):
                (folder / name).write_text(f"{clock}\n")

    def path(self) -> str:
        return f"{self.bin}:{os.environ['PATH']}"
