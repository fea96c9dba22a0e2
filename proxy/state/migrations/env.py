"""How Alembic runs a migration: on the connection, and in the transaction, of `proxy.state.migrate`."""

from alembic import context

from proxy.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by making it anew
    transaction_per_migration=False,
)
context.run_migrations()
