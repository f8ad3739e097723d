import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('url', models.CharField(max_length=2000)),
                ('description', models.CharField(max_length=200)),
                ('event_types', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), default=list, size=None)),
                ('secret', models.TextField()),
                ('previous_secret', models.TextField(null=True)),
                ('previous_secret_until', models.DateTimeField(null=True)),
                ('enabled', models.BooleanField(default=True)),
                ('position', models.BigIntegerField()),
                ('failures', models.IntegerField(default=0)),
                ('failing_since', models.DateTimeField(null=True)),
                ('next_attempt_at', models.DateTimeField()),
                ('paused_at', models.DateTimeField(null=True)),
                ('paused_because', models.CharField(max_length=200, null=True)),
                ('lease', models.UUIDField(null=True)),
                ('leased_until', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('version', models.IntegerField(default=1)),
            ],
            options={
                'verbose_name': 'webhook',
                'db_table': 'webhook_endpoints',
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='users.webhookendpoint')),
                ('kind', models.CharField(max_length=12)),
                ('event_id', models.UUIDField()),
                ('event_type', models.CharField(max_length=64)),
                ('sequence', models.BigIntegerField(null=True)),
                ('attempt', models.IntegerField()),
                ('attempted_at', models.DateTimeField(db_index=True)),
                ('duration_ms', models.IntegerField()),
                ('status', models.SmallIntegerField(null=True)),
                ('error', models.CharField(max_length=200, null=True)),
            ],
            options={
                'verbose_name': 'delivery',
                'verbose_name_plural': 'deliveries',
                'db_table': 'webhook_deliveries',
                'indexes': [models.Index(models.F('endpoint'), models.OrderBy(models.F('id'), descending=True), name='webhook_deliveries_log_idx')],
            },
        ),
    ]
