"""A PostgreSQL server of the tests' own: its files and its socket are in a temporary folder, no port is opened."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.nas.search.small import wait_until


def server_programs() -> Path | None:
    """The folder of initdb and postgres: on the PATH, or where Debian keeps it."""
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
    """Makes a server and runs it; gives the URL of its one database."""
    folder = new_server()
    try:
        with running(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder)


def new_server() -> Path:
    """Makes the files of a server; returns their folder."""
    programs, user = server_programs(), server_user()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of a socket has at most 107 bytes
    if user:
        shutil.chown(folder, user)
    initdb = [programs / "initdb", "--no-sync", "--auth=trust", "--username=hwnas", "--encoding=UTF8"]
    done = subprocess.run(
        [*as_user(user), *initdb, "-D", folder / "data"], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def as_user(user: str | None) -> list[str]:
    return ["runuser", "-u", user, "--"] if user else []


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Runs the server of a folder; gives the URL of its one database."""
    programs, data = server_programs(), folder / "data"
    assert programs is not None
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    # It ends when its standard input does: also when the tests are killed.
    shell = ["sh", "-c", '"$@" & server=$!; read -r _; kill -QUIT $server; wait', "sh"]
    server = subprocess.Popen(
        [*as_user(server_user()), *shell, programs / "postgres", "-D", data, *options],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    url = f"postgresql+psycopg://hwnas@/postgres?host={folder}"
    try:
        wait_until(lambda: answers(url))
        yield url
    finally:
        server.communicate()


def answers(url: str) -> bool:
    import psycopg

    try:
        execute(url, "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def execute(url: str, statement: str) -> None:
    """Runs a statement as the administrator."""
    import psycopg

    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(statement)
