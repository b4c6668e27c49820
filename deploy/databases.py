"""Make Postgres' databases and users, or bring their passwords up to date.

Runs in a pod of the cluster, for nothing else reaches the database; needs nothing but psycopg2. It
reads HOST, ADMINISTRATOR, ADMINISTRATOR_PASSWORD and, for each name in NAMES, NAME_PASSWORD.
"""

import os

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password


def make(connection: "psycopg2.extensions.connection", name: str, password: str) -> None:
    """Make a user and its database, if they are not there, and set its password."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
        verb = sql.SQL("CREATE" if cursor.fetchone() is None else "ALTER")
        user = sql.Identifier(name)
        # Hashed here, for the server writes statements like this one into its log.
        hashed = encrypt_password(password, name, connection, "scram-sha-256")
        change = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
        cursor.execute(change.format(verb, user, sql.Literal(hashed)))
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() is None:
            # RDS' administrator is no superuser, and may give to roles that it is a member of.
            cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(user))
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(user, user))
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(user))


def main() -> None:
    """Read the environment."""
    connection = psycopg2.connect(
        host=os.environ["HOST"],
        port=os.environ.get("PORT", "5432"),
        dbname="postgres",
        user=os.environ["ADMINISTRATOR"],
        password=os.environ["ADMINISTRATOR_PASSWORD"],
        sslmode=os.environ.get("SSLMODE", "require"),
        connect_timeout=30,
    )
    connection.autocommit = True
    for name in os.environ["NAMES"].split():
        make(connection, name, os.environ[f"{name.upper()}_PASSWORD"])
        print(f"database {name} and its user are there")
    connection.close()


if __name__ == "__main__":
    main()
