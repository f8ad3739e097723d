from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0002_webhooks'),
    ]

    operations = [
        migrations.AddField(
            model_name='outboxevent',
            name='schema_version',
            field=models.SmallIntegerField(db_default=1),
        ),
        migrations.AddField(
            model_name='outboxevent',
            name='set_aside_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='outboxevent',
            name='set_aside_because',
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.AddField(
            model_name='relayposition',
            name='heartbeat_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='relayposition',
            name='pruned',
            field=models.BigIntegerField(db_default=0),
        ),
    ]
