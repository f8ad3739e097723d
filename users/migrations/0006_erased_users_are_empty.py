from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):

    # By itself: it reads the whole table, and holds up nobody who writes to it.
    dependencies = [
        ('users', '0005_accounts'),
    ]

    operations = [
        ValidateConstraint(model_name='userrecord', name='users_erased_empty'),
    ]
