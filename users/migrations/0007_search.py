from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Upper

# The hour of birth, and the 8, 64, ... hours that it lies in, as numbers whose last three bits are the
# length. See users.infrastructure.periods, which asks for them.
PERIODS = """
CREATE OR REPLACE FUNCTION users_periods(created_at timestamptz) RETURNS bigint[]
IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    hour bigint := floor(date_part('epoch', created_at AT TIME ZONE 'UTC') / 3600);
BEGIN
    RETURN ARRAY[
        hour << 3, hour >> 3 << 3 | 1, hour >> 6 << 3 | 2,
        hour >> 9 << 3 | 3, hour >> 12 << 3 | 4, hour >> 15 << 3 | 5
    ];
END $$"""
ADDED = ("users_search_idx", "users_admin_idx", "users_operator_idx", "users_service_idx")
REMOVED = ("users_email_trigram_idx", "users_name_trigram_idx", "users_roles_idx")


def staff(role):
    return models.Index(
        models.F("created_at").desc(),
        models.F("id").desc(),
        condition=models.Q(roles__contains=[role]),
        name=f"users_{role}_idx",
    )


class Migration(migrations.Migration):

    # The table may be long, and registrations do not wait for an index.
    atomic = False

    dependencies = [
        ("users", "0006_erased_users_are_empty"),
    ]

    operations = [
        # Beside a backup or a report that runs for an hour it waits an hour, and holds up nobody.
        migrations.RunSQL(
            "SET lock_timeout = 0; SET statement_timeout = 0", "RESET lock_timeout; RESET statement_timeout"
        ),
        # What an attempt that was cut short has left is invalid, and in the way of the next.
        *(
            migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", migrations.RunSQL.noop)
            for name in ADDED
        ),
        migrations.RunSQL(PERIODS, "DROP FUNCTION IF EXISTS users_periods"),
        AddIndexConcurrently(
            model_name="userrecord",
            index=GinIndex(
                models.Func(
                    "created_at",
                    function="users_periods",
                    output_field=ArrayField(models.BigIntegerField()),
                ),
                OpClass(
                    Upper(
                        models.Func(
                            "email",
                            "name",
                            template="'zq' || %(expressions)s",
                            arg_joiner=" || chr(10) || ",
                            output_field=models.TextField(),
                        )
                    ),
                    name="gin_trgm_ops",
                ),
                name="users_search_idx",
                fastupdate=False,
            ),
        ),
        *(
            AddIndexConcurrently(model_name="userrecord", index=staff(role))
            for role in ("admin", "operator", "service")
        ),
        *(RemoveIndexConcurrently(model_name="userrecord", name=name) for name in REMOVED),
        # On the way back, likewise.
        *(
            migrations.RunSQL(migrations.RunSQL.noop, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            for name in REMOVED
        ),
        migrations.RunSQL(
            "RESET lock_timeout; RESET statement_timeout", "SET lock_timeout = 0; SET statement_timeout = 0"
        ),
    ]
