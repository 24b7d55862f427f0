"""Transaction: the statements of one commit of a ledger, and the places where a test can kill the process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Insert, Update

_STATEMENTS = {
    "begin": ("create tables", "insert run", "update life", "insert life"),
    "abandon": ("update life", "update attempt"),
    "propose": ("update life", "insert candidate", "insert proposal", "insert attempt"),
    "attempt": ("update life", "insert attempt"),
    "result": ("update life", "insert result", "update attempt", "update candidate"),
    "failure": ("update life", "update attempt", "update candidate"),
    "end": ("update life",),
}

FAULT_POINTS = (
    *(f"{name}:{place}" for name, done in _STATEMENTS.items() for place in ("before", *done, "recorded", "committed")),
    *("abandon:restored", "propose:told", "propose:submitted", "attempt:submitted", "result:told", "failure:told"),
)
"""Where a test can kill the process: before each transaction, after each of its statements, after it was recorded
(`Database.transaction`), after its commit, and after the search acted on it: rebuilt its state, told the sampler,
submitted the job."""


class Transaction:
    """Runs statements and passes the fault point after each.

    Args:
        connection: in the database's transaction.
        name: of the commit, first part of its fault points.
        passed: called with each fault point.
    """

    def __init__(self, connection: Connection, name: str, passed: Callable[[str], None]) -> None:
        self.connection = connection
        self._name = name
        self._passed = passed

    def run(
        self, statement: Insert | Update, rows: Sequence[Mapping[str, object]] | None = None
    ) -> CursorResult[Any]:  # Any: rows of whatever the statement returns
        """Runs a statement, once for each of the rows where there are some, and passes its fault point."""
        result = self.connection.execute(statement, rows)
        self.passed(f"{statement.__visit_name__} {statement.table.description}")
        return result

    def passed(self, place: str) -> None:
        """Passes the fault point of a place in this commit."""
        self._passed(f"{self._name}:{place}")
