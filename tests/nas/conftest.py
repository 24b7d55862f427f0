from collections.abc import Iterator

import pytest

from tests.nas.search.postgres import postgres_server, server_programs


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    if server_programs() is None:
        pytest.skip("needs PostgreSQL's server programs: apt-get install postgresql")
    with postgres_server() as url:
        yield url
