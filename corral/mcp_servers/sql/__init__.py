"""The ``sql`` server: SQLite and DuckDB files and PostgreSQL, read-only unless granted.

``server`` speaks MCP and imports no database. Each statement runs in a worker process
(``workers``, ``worker``), so that whatever a statement or a hostile file does to its library, time
limits and cancellation hold. The engines (``sqlite``, ``duck``, ``postgres``) let the database
itself refuse what a query may not do; nothing is decided by looking at the text.
"""
