"""Alembic's environment: it migrates through the connection that ``migrate.py`` hands over."""

from alembic import context

from corral.storage import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
