"""What little is read of a statement's text, and never to decide what it may do."""

from __future__ import annotations


def first_word(sql: str) -> str:
    """The first word of a statement in lower case, after spaces, semicolons and comments."""
    at = 0
    while at < len(sql):
        if sql.startswith("--", at):
            at = _after(sql, "\n", at + 2)
        elif sql.startswith("/*", at):
            at = _after_comment(sql, at + 2)
        elif sql[at].isspace() or sql[at] in ";(":
            at += 1
        else:
            break
    end = at
    while end < len(sql) and (sql[end].isalpha() or sql[end] == "_"):
        end += 1
    return sql[at:end].lower()


def _after(sql: str, mark: str, start: int) -> int:
    found = sql.find(mark, start)
    return len(sql) if found < 0 else found + len(mark)


def _after_comment(sql: str, at: int) -> int:
    """Past a comment of PostgreSQL's, which can hold others."""
    depth = 1
    while depth and at < len(sql):
        opened, closed = sql.find("/*", at), sql.find("*/", at)
        if closed < 0:
            return len(sql)
        deeper = 0 <= opened < closed
        depth += 1 if deeper else -1
        at = (opened if deeper else closed) + 2
    return at
