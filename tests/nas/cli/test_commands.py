"""The `nas` program as people call it: exit codes, sentences, help."""

import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli import run

DIGITS = str(Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml")


COMMANDS = (
    "quickstart",
    "run",
    "plan",
    "train",
    "search",
    "front",
    "pick",
    "fleet",
    "trust",
    "finish",
    "doctor",
    "latency",
)


def test_help_names_every_command(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "latency"])
def test_every_command_shows_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"Example: nas {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["devices", "measure", "lint", "import", "fit", "transfer", "evaluate", "list", "promote"]
)
def test_every_latency_command_shows_an_example(command, capsys):
    assert run(["latency", command, "--help"]) == 0
    assert f"Example: nas latency {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["run", DIGITS, "space=nonsense"],
            "space must be one of efficientnet, efficientnet_mixed, fbnet",
        ),
        (["run", DIGITS, "space=tinny"], "did you mean 'tiny'?"),
        (["run", "none.yaml"], "No such file"),
        (["front", "nowhere"], "nowhere is no run directory"),
        (["pick", "nowhere", "--within", "latency_ms@cpu <= 2"], "nowhere is no run directory"),
        (["finish", "nowhere"], "nowhere is no run directory"),
        (["latency", "measure", "--out", "m.parquet", "--device", "local/onnxruntme"], "did you mean"),
        (["latency", "measure", "--out", "m.parquet", "--preset", "fast"], "preset must be one of"),
        (["latency", "measure", "--out", "m.csv", "--count", "10"], ".parquet"),
        (["latency", "fit", "none.parquet", "--name", "x"], "no measurement set at none.parquet"),
        (["latency", "evaluate", "nobody", "--data", "none.parquet"], "no predictor 'nobody'"),
        (["nonsense"], "No such command"),
        (["run"], "Missing argument"),
        (["front", ".", "--format", "xml"], "xml"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_several_mistakes_in_a_file_are_told_together(capsys):
    assert run(["run", DIGITS, "space=nonsense", "search.budge=3"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_installed_program_answers_with_the_same_exit_code(tmp_path):
    program = Path(sys.executable).parent / "nas"
    wrong = subprocess.run([program, "front", "nowhere"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("nas: nowhere is no run directory")
    right = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    assert right.returncode == 0
    assert right.stdout.startswith("hwnas ")


@pytest.mark.parametrize("module", ["nas", "nas.api", "nas.cli.app"])
def test_importing_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}; "
        "print(*[m for m in ('torch', 'ray', 'tensorflow', 'plotly', 'sklearn', 'optuna') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
