from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    # The outbox may be long, and registrations do not wait for an index.
    atomic = False

    dependencies = [
        ('users', '0003_relay'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxevent',
            index=models.Index(fields=['event_type', 'sequence'], name='outbox_type_sequence_idx'),
        ),
        AddIndexConcurrently(
            model_name='outboxevent',
            index=models.Index(condition=models.Q(('set_aside_at__isnull', False)), fields=['sequence'], name='outbox_set_aside_idx'),
        ),
    ]
