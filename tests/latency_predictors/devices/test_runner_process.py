import os
import sys

import psutil
import pytest

from latency_predictors.devices.runner_process import RunnerEndedError, RunnerProcess

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def _process(code: str) -> RunnerProcess:
    return RunnerProcess([sys.executable, "-c", code], dict(os.environ))


def test_an_answer_is_one_json_line() -> None:
    with _process(ECHO) as process:
        assert process.ask({"model": "a"}, 60) == {"model": "a"}
        assert process.ask({"model": "b"}, 60) == {"model": "b"}


def test_a_process_that_does_not_answer_in_time_is_killed() -> None:
    with _process("import time; time.sleep(600)") as process:
        with pytest.raises(RunnerEndedError, match=r"no answer within 0\.5 s; the process was killed"):
            process.ask({}, 0.5)
        with pytest.raises(RunnerEndedError):
            process.ask({}, 60)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.stdin.readline(); sys.exit('no such runtime')", r"exit status 1\): no such runtime$"),
        ("import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)", r"signal 11\)$"),
        ("import sys; sys.stdin.readline(); print('half a li', end='')", r"exit status 0\)$"),
    ],
)
def test_a_process_that_ends_instead_of_answering_is_reported_with_its_last_words(code: str, message: str) -> None:
    with _process(code) as process, pytest.raises(RunnerEndedError, match=message):
        process.ask({}, 60)


def test_leaving_the_context_ends_the_process_even_by_an_error() -> None:
    others = set(psutil.Process().children())  # that tests before have left running

    def be_interrupted() -> None:
        with _process("import time; time.sleep(600)"):
            assert set(psutil.Process().children()) - others
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert not set(psutil.Process().children()) - others
