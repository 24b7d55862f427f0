import os
import re
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.errors import RunError
from nas.search.journal import Journal
from nas.search.journal_text import journal_line, read_journal
from nas.search.ledger import Ledger
from nas.search.results import evaluated
from tests.nas.search.small import Small, child, evaluations, search_in_child, wait_until
from tests.nas.search.test_ledger import IDENTITY, candidate, proposal

Content = tuple[object, ...]


def content(folder: Path) -> Content:
    """Everything that a ledger holds, as its readers see it."""
    with Ledger(folder / "ledger.db") as ledger:
        return (
            evaluated(ledger), ledger.candidates(), ledger.proposals(), ledger.attempts(), ledger.lives(),
            ledger.validation_images(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search; one of its candidates failed."""
    folder = tmp_path_factory.mktemp("searched")
    Small(folder, budget=8, population=4, seed=6, fails_for="c").run()
    return folder


@pytest.fixture
def copied(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "copied"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was killed; most of its ledger is in the write-ahead log."""
    folder = tmp_path_factory.mktemp("killed")
    process = child(search_in_child, Small(folder), 160)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (folder / "ledger.db-wal").stat().st_size > 100_000
    return folder


def mend(folder: Path) -> tuple[Path, ...]:
    journal = Journal(folder / "ledger.db")
    return journal.rebuild(journal.examine())


def test_a_journal_has_a_line_for_each_transaction_and_ends_with_the_rows_of_the_database(searched: Path) -> None:
    found = Journal(searched / "ledger.db").examine()
    assert (found.state, found.held, found.written) == ("good", found.written, found.held)
    text = read_journal((searched / "ledger.journal").read_bytes())
    assert len(text.lines) == found.written > 20
    with sqlite3.connect(searched / "ledger.db") as database:
        for table in ("candidate", "proposal", "attempt", "result", "life", "run"):
            rows = database.execute(f"SELECT * FROM {table}").fetchall()
            assert rows == [tuple(row) for (name, _), row in sorted(text.rows(text.last).items()) if name == table]


def change_a_value(folder: Path) -> None:
    """Another accuracy, of the same length: nothing that SQLite itself could notice."""
    data = (folder / "ledger.db").read_bytes()
    match = list(re.finditer(rb'"accuracy": 0\.(\d)', data))[3]
    digit = b"1" if match[1] != b"1" else b"2"
    (folder / "ledger.db").write_bytes(data[: match.start(1)] + digit + data[match.end(1) :])


def delete_a_row(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute("DELETE FROM result WHERE candidate = (SELECT max(candidate) FROM result)")


def zero_the_counter(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute("PRAGMA user_version = 0")


def raise_the_counter(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute("PRAGMA user_version = 1000")


@pytest.mark.parametrize(
    "damage",
    [
        change_a_value, delete_a_row, zero_the_counter, raise_the_counter,
        lambda folder: os.truncate(folder / "ledger.db", 5000), lambda folder: (folder / "ledger.db").unlink(),
        lambda folder: (folder / "ledger.db").write_bytes(b"x" * 9000),
    ],
)  # fmt: skip
def test_a_damaged_database_is_refused_by_readers_and_rebuilt_from_the_journal(
    searched: Path, copied: Path, damage: Callable[[Path], None]
) -> None:
    damage(copied)
    with pytest.raises(RunError, match=r"ledger\.db is damaged .*`nas doctor .* --repair` rebuilds it"):
        content(copied)
    if (copied / "ledger.db").exists():
        with pytest.raises(RunError, match="is damaged"):
            Small(copied, budget=8, population=4, seed=6, fails_for="c").run()
    kept = mend(copied)
    assert content(copied) == content(searched)
    assert all(re.fullmatch(r"ledger\.db(-wal|-shm)?\.damaged-\w+", path.name) for path in kept)


def drop_a_line(lines: list[bytes]) -> list[bytes]:
    return lines[:5] + lines[6:]


def swap_two_lines(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], lines[6], lines[5], *lines[7:]]


def change_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], lines[5].replace(b"0.", b"1.", 1), *lines[6:]]


def cut_after_a_line(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def cut_in_the_last_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:-5]]


@pytest.mark.parametrize(
    "damage",
    [drop_a_line, swap_two_lines, change_a_line, cut_after_a_line, cut_in_the_last_line, lambda lines: []],
)
def test_a_damaged_journal_is_refused_and_written_again_from_the_database(
    searched: Path, copied: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = copied / "ledger.journal"
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RunError, match=r"ledger\.journal is damaged .*--repair` writes it again from ledger\.db"):
        content(copied)
    with pytest.raises(RunError, match="is damaged"):
        Small(copied, budget=8, population=4, seed=6, fails_for="c").run()
    assert [path.name[:24] for path in mend(copied)] == ["ledger.journal.damaged-2"]
    assert content(copied) == content(searched)
    Small(copied, budget=9, population=4, seed=6, fails_for="c").run()
    assert Journal(copied / "ledger.db").examine().state == "good"
    change_a_value(copied)
    mend(copied)
    with Ledger(copied / "ledger.db") as ledger:
        assert len(evaluated(ledger)) == 9, "a journal that was written again is as good as the first"


def test_a_ledger_without_its_journal_is_refused(searched: Path, copied: Path) -> None:
    (copied / "ledger.journal").unlink()
    with pytest.raises(RunError, match=r"ledger\.journal is damaged \(it is missing\)"):
        content(copied)
    mend(copied)
    assert content(copied) == content(searched)


def test_where_both_are_damaged_nothing_is_touched(copied: Path) -> None:
    path = copied / "ledger.journal"
    path.write_bytes(b"".join(drop_a_line(path.read_bytes().splitlines(keepends=True))))
    os.truncate(copied / "ledger.db", 5000)
    before = {path: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(RunError, match="are both damaged: restore them from a copy"):
        mend(copied)
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


def test_a_row_that_both_hold_differently_is_not_trusted_where_the_journal_is_damaged_elsewhere(copied: Path) -> None:
    path = copied / "ledger.journal"
    path.write_bytes(b"".join(drop_a_line(path.read_bytes().splitlines(keepends=True))))
    change_a_value(copied)
    with pytest.raises(RunError, match="are both damaged"):
        content(copied)


def test_a_line_whose_commit_was_cut_off_is_committed_by_whoever_opens_the_ledger_next(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=3)
    passed: list[str] = []
    Small(tmp_path / "whole", budget=3).folder.mkdir()
    Small(tmp_path / "whole", budget=3).run(fault=passed.append)
    process = child(search_in_child, small, passed.index("result:recorded"))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = Journal(tmp_path / "ledger.db").examine()
    assert (found.state, found.written - found.held) == ("behind", 1)
    with Ledger(tmp_path / "ledger.db") as ledger, ledger.coordinated():
        assert len(evaluated(ledger)) == 1
    small.run()
    assert small.candidates() == Small(tmp_path / "whole").candidates()
    assert set(evaluations(tmp_path).values()) == {1}, "what the line held is not evaluated again"


def test_a_last_line_that_was_cut_off_belongs_to_no_commit_and_goes(copied: Path) -> None:
    before = content(copied)
    with (copied / "ledger.journal").open("ab") as file:
        file.write(b"0123456789abcdef")
    assert content(copied) == before
    with Ledger(copied / "ledger.db") as ledger, ledger.coordinated():
        pass
    assert (copied / "ledger.journal").read_bytes().endswith(b"]]\n")
    assert content(copied) == before


def test_after_a_commit_that_failed_the_next_one_takes_its_place(tmp_path: Path) -> None:
    failing = {"attempt:recorded"}

    def fault(point: str) -> None:
        if point in failing:
            failing.clear()
            raise OSError("a commit fails")

    with Ledger(tmp_path / "ledger.db", fault=fault) as ledger:
        ledger.begin(IDENTITY)
        ledger.propose([proposal(0, 0)], candidate(0))
        with pytest.raises(OSError, match="a commit fails"):
            ledger.start_attempt(0)
        assert Journal(tmp_path / "ledger.db").examine().state == "good"
        ledger.propose([proposal(1, 1)], candidate(1))
        assert Journal(tmp_path / "ledger.db").examine().state == "good"
        assert [attempt.candidate for attempt in ledger.attempts()] == [0, 1]


def test_a_lost_write_ahead_log_is_made_good_by_whoever_opens_the_ledger_next(killed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "copied"))
    expected = content(Path(shutil.copytree(killed, tmp_path / "expected")))
    (folder / "ledger.db-wal").unlink()
    assert re.search(r"lacks the last \d\d transactions", Journal(folder / "ledger.db").examine().problem)
    assert content(folder) == expected
    assert Journal(folder / "ledger.db").examine().state == "good"


def test_a_reader_brings_back_what_a_commit_lost_beside_the_search_that_writes_on(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger, ledger.coordinated():
        ledger.begin(IDENTITY)
        ledger.propose([proposal(0, 0)], candidate(0))
        path = tmp_path / "ledger.journal"
        digest = read_journal(path.read_bytes()).lines[-1].digest
        row: list[str | int | float | None] = [2, 0, 1, 5.0, None, None, None, None, None, 0]
        with path.open("ab") as file:
            file.write(journal_line(3, {("attempt", 2): row}, digest))
            file.write(b"half a line")
        with Ledger(tmp_path / "ledger.db") as reader:
            assert [attempt.id for attempt in reader.attempts()] == [1, 2]
        ledger.propose([proposal(1, 1)], candidate(1))
        assert [attempt.id for attempt in ledger.attempts()] == [1, 2, 3]
        assert Journal(tmp_path / "ledger.db").examine().state == "good"


def test_a_reader_beside_a_running_search_is_never_told_of_damage(tmp_path: Path) -> None:
    process = child(search_in_child, Small(tmp_path, budget=60, seconds=0.03))
    wait_until(lambda: evaluations(tmp_path).total() >= 1)
    seen = []
    while process.is_alive():
        with Ledger(tmp_path / "ledger.db") as ledger:
            seen.append(len(evaluated(ledger)))
    process.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


def fill_up(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error, as on a full disk
    with Ledger(folder / "ledger.db") as ledger, ledger.coordinated():
        ledger.begin(IDENTITY)
        limit = (folder / "ledger.journal").stat().st_size + 300
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            ledger.propose([proposal(40, 40)], candidate(40))
        except RunError as error:
            (folder / "told").write_text(str(error))
        assert len(ledger.candidates()) == 40


def test_a_full_disk_leaves_both_whole(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.begin(IDENTITY)
        for number in range(40):
            ledger.propose([proposal(number, number)], candidate(number))
    process = child(fill_up, tmp_path)
    process.join(60)
    assert process.exitcode == 0
    assert (
        "ledger.journal cannot be written (File too large): nothing committed is lost"
        in (tmp_path / "told").read_text()
    )
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert len(ledger.candidates()) == 40
