import django.db.models.deletion
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0004_outbox_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='EmailChange',
            fields=[
                ('user_id', models.UUIDField(primary_key=True, serialize=False)),
                ('email', models.CharField(db_index=True, max_length=254)),
                ('fingerprint', models.CharField(max_length=32)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
            ],
            options={
                'db_table': 'email_changes',
            },
        ),
        migrations.CreateModel(
            name='Erasure',
            fields=[
                ('user_id', models.UUIDField(primary_key=True, serialize=False)),
                ('erased_at', models.DateTimeField()),
                ('swept_at', models.DateTimeField(db_index=True, null=True)),
                ('tried_at', models.DateTimeField(null=True)),
                ('accounts', models.JSONField(db_default=[], default=list)),
                ('had_roles', models.BooleanField(db_default=True, default=True)),
            ],
            options={
                'db_table': 'erasures',
            },
        ),
        migrations.CreateModel(
            name='Mail',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=32)),
                ('user_id', models.UUIDField(db_index=True, null=True)),
                ('email', models.CharField(db_index=True, max_length=254, null=True)),
                ('event_id', models.UUIDField(null=True)),
                ('data', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(db_index=True)),
                ('attempts', models.IntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField(db_index=True, null=True)),
                ('lease', models.UUIDField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
                ('error', models.CharField(max_length=200, null=True)),
            ],
            options={
                'db_table': 'mails',
            },
        ),
        migrations.CreateModel(
            name='MailPosition',
            fields=[
                ('id', models.SmallIntegerField(primary_key=True, serialize=False)),
                ('position', models.BigIntegerField()),
                ('touched_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'mail_position',
            },
        ),
        migrations.CreateModel(
            name='RefreshToken',
            fields=[
                ('jti', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('issued_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('consumed_at', models.DateTimeField(db_index=True, null=True)),
                ('successor', models.UUIDField(null=True)),
            ],
            options={
                'db_table': 'refresh_tokens',
            },
        ),
        migrations.CreateModel(
            name='Session',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('user_id', models.UUIDField()),
                ('token_version', models.IntegerField()),
                ('user_agent', models.CharField(max_length=256)),
                ('address', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField()),
                ('last_used_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('ended_at', models.DateTimeField(null=True)),
            ],
            options={
                'db_table': 'sessions',
            },
        ),
        migrations.AddField(
            model_name='userrecord',
            name='ended_sessions',
            field=models.JSONField(db_default={}, default=dict),
        ),
        migrations.AddField(
            model_name='userrecord',
            name='locale',
            field=models.CharField(db_default='en', max_length=8, null=True),
        ),
        migrations.AlterField(
            model_name='userrecord',
            name='email',
            field=models.CharField(max_length=254, null=True),
        ),
        migrations.AlterField(
            model_name='userrecord',
            name='name',
            field=models.CharField(max_length=100, null=True),
        ),
        AddConstraintNotValid(
            model_name='userrecord',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('email', None), ('locale', None), ('name', None), ('password_hash', ''), ('status', 'erased')), models.Q(models.Q(('status', 'erased'), _negated=True), ('email__isnull', False), ('name__isnull', False)), _connector='OR'), name='users_erased_empty'),
        ),
        migrations.AddConstraint(
            model_name='mail',
            constraint=models.UniqueConstraint(fields=('event_id', 'kind'), name='mails_event_kind_unique'),
        ),
        migrations.AddConstraint(
            model_name='mailposition',
            constraint=models.CheckConstraint(condition=models.Q(('id', 1)), name='mail_position_single'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(models.F('user_id'), models.OrderBy(models.F('created_at'), descending=True), name='sessions_user_idx'),
        ),
        migrations.AddField(
            model_name='refreshtoken',
            name='session',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='refresh_tokens', to='users.session'),
        ),
    ]
