import time

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import OperationalError, migrations, transaction
from psycopg.errors import LockNotAvailable

PATIENCE_MILLISECONDS = 500

# Of a batch and a change of one of its users the later waits for the earlier: what the trigger has written
# stays, and what it finds it writes over. The lock holds off deletions, lest he stays here who is gone.
BATCH = """
WITH batch AS MATERIALIZED (
    SELECT id, status, created_at FROM users WHERE id > %s ORDER BY id LIMIT 10000 FOR KEY SHARE
), copied AS (
    INSERT INTO user_standings (id, status, created_at) SELECT id, status, created_at FROM batch
    ON CONFLICT (id) DO NOTHING
)
SELECT id FROM batch ORDER BY id DESC LIMIT 1
"""


def copy(apps, schema_editor):
    """Each batch is a transaction. Done once more, it leaves what is there."""
    last = ("00000000-0000-0000-0000-000000000000",)
    with schema_editor.connection.cursor() as cursor:
        while last:
            last = copy_batch(cursor, last)
        cursor.execute("ANALYZE user_standings")


def copy_batch(cursor, last):
    """Whoever changes one of these users and does not commit is waited for in pieces, lest others wait behind."""
    while True:
        try:
            with transaction.atomic(cursor.db.alias):
                cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE_MILLISECONDS}ms'")
                cursor.execute(BATCH, last)
                return cursor.fetchone()
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            time.sleep(PATIENCE_MILLISECONDS / 1000)


class Migration(migrations.Migration):

    # The table may be long, and nobody waits for it.
    atomic = False

    dependencies = [
        ("users", "0008_standings"),
    ]

    operations = [
        # Beside a backup or a report that runs for an hour it waits an hour, and holds up nobody.
        migrations.RunSQL(
            "SET lock_timeout = 0; SET statement_timeout = 0", "RESET lock_timeout; RESET statement_timeout"
        ),
        migrations.RunPython(copy, migrations.RunPython.noop),
        RemoveIndexConcurrently(model_name="userrecord", name="users_status_created_idx"),
        # On the way back: what an attempt that was cut short has left is invalid, and in the way of the next.
        migrations.RunSQL(
            migrations.RunSQL.noop, "DROP INDEX CONCURRENTLY IF EXISTS users_status_created_idx"
        ),
        # Room on the page for the row's next version, without which every index is written after all. Pages
        # that are full get it as their rows move on.
        migrations.RunSQL("ALTER TABLE users SET (fillfactor = 90)", "ALTER TABLE users RESET (fillfactor)"),
        migrations.RunSQL(
            "RESET lock_timeout; RESET statement_timeout", "SET lock_timeout = 0; SET statement_timeout = 0"
        ),
    ]
