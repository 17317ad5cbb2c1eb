"""Keeps runs from LangSmith: LangGraph would send it everything, before anything is redacted.

Whoever sets ``LANGSMITH_TRACING`` means programs of their own. A run's trace is its journal, and
``otlp_endpoint`` is how it leaves this machine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from langsmith.run_helpers import tracing_context


def untraced() -> AbstractContextManager[None]:
    """Inside of it, and in the tasks that begin there, nothing is sent to LangSmith."""
    return tracing_context(enabled=False)
