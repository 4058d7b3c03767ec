"""Alembic's entry: runs the migrations on the connection that `shared.store.migrate` hands over."""

from alembic import context

from shared.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
