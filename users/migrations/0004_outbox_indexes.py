from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    # The outbox may be long, and registrations do not wait for an index.
    atomic = False

    dependencies = [
        ('users', '0003_relay'),
    ]

    operations = [
        # Beside a backup or a report that runs for an hour it waits an hour, and holds up nobody.
        migrations.RunSQL("SET lock_timeout = 0; SET statement_timeout = 0", migrations.RunSQL.noop),
        # What an attempt that was cut short has left is invalid, and in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS outbox_type_sequence_idx", migrations.RunSQL.noop),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS outbox_set_aside_idx", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name='outboxevent',
            index=models.Index(fields=['event_type', 'sequence'], name='outbox_type_sequence_idx'),
        ),
        AddIndexConcurrently(
            model_name='outboxevent',
            index=models.Index(condition=models.Q(('set_aside_at__isnull', False)), fields=['sequence'], name='outbox_set_aside_idx'),
        ),
        migrations.RunSQL("RESET lock_timeout; RESET statement_timeout", migrations.RunSQL.noop),
    ]
