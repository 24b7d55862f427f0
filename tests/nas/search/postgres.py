"""A PostgreSQL server of the tests' own: its files and its socket are in a temporary folder, no port is opened."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def server_programs() -> Path | None:
    """The folder of initdb and pg_ctl: on the PATH, or where Debian keeps it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


def server_user() -> str | None:
    """Who runs the server: this user, but initdb refuses root."""
    if os.getuid() != 0:
        return None
    known = Path("/etc/passwd").read_text()
    return "postgres" if "\npostgres:" in known else "nobody"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Runs a server; gives the URL of its one database."""
    programs, user = server_programs(), server_user()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of a socket has at most 107 bytes

    def run(*command: str | Path) -> None:
        as_user = ["runuser", "-u", user, "--"] if user else []
        done = subprocess.run([*as_user, *command], capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    if user:
        shutil.chown(folder, user)
    data, options = folder / "data", f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    try:
        run(programs / "initdb", "--no-sync", "--auth=trust", "--username=hwnas", "--encoding=UTF8", "-D", data)
        run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        yield f"postgresql+psycopg://hwnas@/postgres?host={folder}"
    finally:
        if (data / "postmaster.pid").exists():
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def execute(url: str, statement: str) -> None:
    """Runs a statement as the administrator."""
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(statement)
