import json

import pytest

from nas.cli.output import ProgressLine, emit
from nas.progress import Progress


def test_a_table_has_a_column_for_every_key_of_any_row(capsys):
    emit({}, [{"model": "a", "ms": 1.23456}, {"model": "b", "outcome": "refused"}], "table")
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["model", "ms", "outcome"]
    assert out[1].split() == ["a", "1.235"]
    assert out[2].split() == ["b", "refused"]


def test_json_is_all_that_stands_on_stdout(capsys):
    emit({"rows": [1.5]}, [{"a": 1}], "json")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"rows": [1.5]}
    assert captured.err == ""


def test_an_answer_without_rows_prints_no_table(capsys):
    emit([], [], "table")
    assert capsys.readouterr().out == ""


def test_progress_outside_a_terminal_is_plain_lines_at_the_start_the_end_and_for_news(capsys):
    with ProgressLine() as line:
        for done in range(1, 101):
            line(Progress("search", done, 100, f"front {done}", notable=done == 40))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:2] == ["search", "1/100"]
    assert lines[1] == "search: front 40"
    assert lines[2].split()[:2] == ["search", "100/100"]
    assert not any("\x1b" in text or "\r" in text for text in lines)


def test_progress_never_writes_to_stdout(capsys):
    with ProgressLine() as line:
        line(Progress("train", 1, 2, "loss 1.0", notable=True))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_no_reader_takes(value):
    with pytest.raises(ValueError, match="JSON"):
        emit({"value": value}, [], "json")
