"""One PostgreSQL server for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mcp_servers.sql.pg import Postgres, postgres


@pytest.fixture(scope="module")
def pg() -> Iterator[Postgres]:
    with postgres() as found:
        found.run(
            """
            CREATE TYPE mood AS ENUM ('good', 'bad');
            CREATE TABLE shop (
                id int PRIMARY KEY, name text NOT NULL, price numeric(9, 2), made timestamptz
            );
            COMMENT ON TABLE shop IS 'all shops';
            CREATE TABLE sale (shop int REFERENCES shop (id), mood mood);
            CREATE VIEW cheap AS SELECT * FROM shop WHERE price < 2;
            CREATE TABLE hidden (x int);
            CREATE SEQUENCE numbers;
            INSERT INTO shop VALUES (1, 'Ann', 1.5, 'infinity'), (2, 'Bob', 2.5, NULL);
            CREATE FUNCTION adds() RETURNS int LANGUAGE plpgsql
            AS 'BEGIN INSERT INTO public.shop VALUES (99, ''x''); RETURN 1; END';
            CREATE FUNCTION does(text) RETURNS int LANGUAGE plpgsql
            AS 'BEGIN EXECUTE $1; RETURN 1; END';
            GRANT SELECT ON shop, sale, cheap TO reader;
            GRANT ALL ON shop, sale, cheap TO writer;
            GRANT ALL ON SEQUENCE numbers TO reader;
            GRANT INSERT ON shop TO reader;
            ANALYZE;
            """
        )
        yield found
