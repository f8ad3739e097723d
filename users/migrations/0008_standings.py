import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# What has changed may be missing, while migration 0009 copies those who are here already; and be there, copied
# just now. To insert and find that it is there, which is the rule, takes twice as long as to update it. Whoever
# writes from elsewhere, as a restored dump does, has another search path.
TRIGGERS = """
CREATE FUNCTION users_keep_standing() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM user_standings WHERE id = OLD.id;
    ELSIF TG_OP = 'TRUNCATE' THEN
        DELETE FROM user_standings;
    ELSE
        IF TG_OP = 'UPDATE' THEN
            UPDATE user_standings SET status = NEW.status, created_at = NEW.created_at WHERE id = NEW.id;
            IF FOUND THEN
                RETURN NULL;
            END IF;
        END IF;
        INSERT INTO user_standings (id, status, created_at) VALUES (NEW.id, NEW.status, NEW.created_at)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, created_at = excluded.created_at;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER users_standing_changed AFTER UPDATE OF status, created_at ON users FOR EACH ROW
    WHEN ((OLD.status, OLD.created_at) IS DISTINCT FROM (NEW.status, NEW.created_at))
    EXECUTE FUNCTION users_keep_standing();
CREATE TRIGGER users_standing_kept AFTER INSERT OR DELETE ON users FOR EACH ROW
    EXECUTE FUNCTION users_keep_standing();
CREATE TRIGGER users_standing_emptied AFTER TRUNCATE ON users FOR EACH STATEMENT
    EXECUTE FUNCTION users_keep_standing();
"""
NO_TRIGGERS = """
DROP TRIGGER users_standing_changed ON users;
DROP TRIGGER users_standing_kept ON users;
DROP TRIGGER users_standing_emptied ON users;
DROP FUNCTION users_keep_standing();
"""


class Migration(migrations.Migration):

    # One transaction: who writes to `users` waits for a moment, and from then on writes into the new table too.
    dependencies = [
        ("users", "0007_search"),
    ]

    operations = [
        migrations.CreateModel(
            name="UserStanding",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        db_column="id",
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="standing",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("status", models.CharField(max_length=8)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "user_standings",
                "indexes": [
                    models.Index(
                        models.F("status"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        models.OrderBy(models.F("user"), descending=True),
                        name="user_standings_order_idx",
                    )
                ],
            },
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
