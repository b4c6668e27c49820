"""Databases and users, on a real Postgres whose administrator is no superuser, as on RDS."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.infra, pytest.mark.services]


def test_databases_are_made_once_and_passwords_changed(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pgserver")
    psycopg2 = pytest.importorskip("psycopg2")
    from deploy.databases import make

    with pgserver.get_server(tmp_path, cleanup_mode="delete") as server:
        host = server.get_uri().partition("host=")[2]
        root = psycopg2.connect(server.get_uri())
        root.autocommit = True
        root.cursor().execute("CREATE ROLE administrator LOGIN CREATEDB CREATEROLE")
        root.cursor().execute("ALTER ROLE administrator SET log_statement = 'ddl'")
        administrator = psycopg2.connect(host=host, user="administrator", dbname="postgres")
        administrator.autocommit = True

        for password in ("first", "second"):
            for name in ("dagster", "mlflow"):
                make(administrator, name, password)

        cursor = root.cursor()
        cursor.execute("SELECT datname, pg_get_userbyid(datdba) FROM pg_database")
        owners = dict(cursor.fetchall())
        assert (owners["dagster"], owners["mlflow"]) == ("dagster", "mlflow")
        with psycopg2.connect(host=host, user="dagster", dbname="dagster") as own:
            own.cursor().execute("CREATE TABLE runs (id int)")
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(host=host, user="dagster", dbname="mlflow")
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'dagster'")
        assert cursor.fetchone()[0].startswith("SCRAM-SHA-256$")
        (log,) = tmp_path.glob("log")
        assert "ALTER ROLE" in log.read_text()
        assert "second" not in log.read_text()
        for connection in (root, administrator, own):
            connection.close()
