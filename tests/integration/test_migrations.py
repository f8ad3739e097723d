"""The schema: the migrations make what the models say, and the questions that are asked use its indexes."""

import re
import threading
import time
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, models, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.builders import a_user
from tests.together import PATIENCE, in_background
from users.admin.site import site
from users.application.ports import Position, UserCriteria
from users.infrastructure import outbox
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.repository import DjangoUserRepository, constraint_of
from users.models import UserRecord, UserStanding
from users_domain.value_objects import Email

BLOCKED = {"status": "blocked", "block_reason": "spam", "blocked_at": timezone.now()}
OURS = list(apps.get_app_config("users").get_models())


@pytest.fixture
def empty_database(database):
    """A database without a table, in the place of the run's."""
    usual = connection.settings_dict["NAME"]
    name = f"{usual}_from_zero"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name}")
    connections.close_all()
    connection.settings_dict["NAME"] = name
    yield
    connections.close_all()
    connection.settings_dict["NAME"] = usual
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def in_catalog(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return {name for (name,) in cursor.fetchall()}


def test_migrations_lead_from_nothing_to_the_models_and_back(empty_database):
    call_command("migrate", verbosity=0)
    call_command("migrate", "--check", verbosity=0)
    assert {model._meta.db_table for model in OURS} <= in_catalog("SELECT tablename FROM pg_tables")

    call_command("migrate", "users", "zero", verbosity=0)
    call_command("migrate", verbosity=0)


def test_an_index_is_built_beside_a_backup_and_after_an_attempt_that_failed(empty_database):
    call_command("migrate", "users", "0003", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX outbox_type_sequence_idx ON outbox (id)")  # what that has left
        cursor.execute("SET lock_timeout = '100ms'")
    under_way = threading.Event()

    def back_up(stop):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM users")
            under_way.set()
            time.sleep(0.5)

    with in_background(back_up):
        assert under_way.wait(PATIENCE)
        call_command("migrate", "users", verbosity=0)

    [definition] = in_catalog("SELECT indexdef FROM pg_indexes WHERE indexname = 'outbox_type_sequence_idx'")
    assert "(event_type, sequence)" in definition


def test_the_way_back_can_be_gone_again_where_it_was_cut_short(empty_database):
    call_command("migrate", "users", "0007", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX users_roles_idx ON users (id)")  # what that has left
        cursor.execute("DROP INDEX users_search_idx")
        cursor.execute("DROP FUNCTION users_periods")

    call_command("migrate", "users", "0006", verbosity=0)

    [definition] = in_catalog("SELECT indexdef FROM pg_indexes WHERE indexname = 'users_roles_idx'")
    assert "(roles)" in definition
    call_command("migrate", verbosity=0)


def test_who_was_here_before_the_standings_gets_one_also_where_copying_was_cut_short(empty_database):
    call_command("migrate", "users", "0007", verbosity=0)
    for _ in range(3):
        DjangoUserRepository().add(a_user())
    call_command("migrate", "users", "0008", verbosity=0)
    DjangoUserRepository().add(a_user())  # now, and so before the others
    UserRecord.objects.filter(id=UserRecord.objects.values("id")[:1]).update(**BLOCKED)

    call_command("migrate", "users", verbosity=0)

    standing = UserStanding.objects.values_list("user_id", "status", "created_at")
    assert set(standing) == set(UserRecord.objects.values_list("id", "status", "created_at"))
    assert sorted(each.status for each in UserStanding.objects.all()) == ["active"] * 3 + ["blocked"]
    assert in_catalog("SELECT unnest(reloptions) FROM pg_class WHERE relname = 'users'") == {"fillfactor=90"}
    assert not in_catalog("SELECT indexname FROM pg_indexes WHERE indexname = 'users_status_created_idx'")


def test_the_way_back_from_the_standings_leaves_nothing_of_them(empty_database):
    call_command("migrate", "users", verbosity=0)
    DjangoUserRepository().add(a_user())
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX users_status_created_idx ON users (id)")  # of an attempt before

    call_command("migrate", "users", "0007", verbosity=0)

    UserRecord.objects.update(**BLOCKED)
    [definition] = in_catalog("SELECT indexdef FROM pg_indexes WHERE indexname = 'users_status_created_idx'")
    assert "(status, created_at DESC, id DESC)" in definition
    assert not in_catalog("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'users_standing%'")
    assert not in_catalog("SELECT proname FROM pg_proc WHERE proname = 'users_keep_standing'")
    assert not in_catalog("SELECT tablename FROM pg_tables WHERE tablename = 'user_standings'")
    assert in_catalog("SELECT reloptions FROM pg_class WHERE relname = 'users'") == {None}


def test_no_migration_is_missing(database):
    said = StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=said)
    assert "No changes detected" in said.getvalue()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_constraint_and_index_of_the_models_is_in_the_database(database, model):
    table = model._meta.db_table
    constraints = in_catalog(f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass")
    indexes = in_catalog(f"SELECT indexname FROM pg_indexes WHERE tablename = '{table}'")

    assert {constraint.name for constraint in model._meta.constraints} <= constraints
    assert {index.name for index in model._meta.indexes} <= indexes
    for field in model._meta.fields:
        if field.unique and not field.primary_key:
            assert [
                name
                for name in constraints
                if re.match(rf"{table}_{field.column}_\w+_uniq|.*{field.column}.*key", name)
            ]


def test_the_models_name_what_the_service_relies_on():
    named = {each.name for each in [*UserRecord._meta.constraints, *UserRecord._meta.indexes]}
    assert named >= {
        "users_email_unique",
        "users_status_known",
        "users_block_complete",
        "users_version_positive",
        "users_created_idx",
        "users_email_prefix_idx",
        "users_search_idx",
        "users_admin_idx",
        "users_operator_idx",
        "users_service_idx",
        "users_blocked_until_idx",
    }


@pytest.mark.parametrize(
    ("changed", "constraint"),
    [
        ({"email": "taken@example.com"}, "users_email_unique"),
        ({"status": "asleep"}, "users_status_known"),
        ({"status": "blocked"}, "users_block_complete"),
        ({"status": "blocked", "block_reason": "spam"}, "users_block_complete"),
        ({"blocked_until": timezone.now()}, "users_block_complete"),
        ({"block_reason": "spam"}, "users_block_complete"),
        ({"version": 0}, "users_version_positive"),
    ],
)
def test_the_database_refuses_what_no_user_can_be(database, changed, constraint):
    user = a_user()
    for somebody in (a_user(email=Email("taken@example.com")), user):
        DjangoUserRepository().add(somebody)

    with pytest.raises(IntegrityError) as refusal:
        UserRecord.objects.filter(id=user.id.value).update(**changed)
    assert constraint_of(refusal.value) == constraint


# --- Indexes -----------------------------------------------------------------------------------------

CROWD = """
INSERT INTO users (id, email, name, status, roles, password_hash, email_verified, block_reason, blocked_at,
                   blocked_until, token_version, created_at, updated_at, version)
SELECT ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
       left(md5(n::text), 12) || '@example.com', 'Name ' || n,
       CASE WHEN n % 50 = 0 THEN 'blocked' ELSE 'active' END,
       CASE WHEN n % 100 = 0 THEN '{operator}' ELSE '{}' END::varchar[], 'x', false,
       CASE WHEN n % 50 = 0 THEN 'spam' END, CASE WHEN n % 50 = 0 THEN now() END,
       CASE WHEN n % 100 = 0 THEN now() + n * interval '1 hour' END,
       1, now() - n * interval '1 minute', now(), 1
FROM generate_series(1, 20000) AS n;
INSERT INTO outbox (event_id, event_type, user_id, user_version, occurred_at, data, sequence)
SELECT gen_random_uuid(), 'user.created', ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1,
       now(), '{}', CASE WHEN n <= 3990 THEN n END
FROM generate_series(1, 4000) AS n;
"""


@pytest.fixture
def crowd(database):
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # all those trigrams take a while
        cursor.execute(CROWD)
        cursor.execute("RESET statement_timeout")
        cursor.execute("VACUUM ANALYZE users")
        cursor.execute("VACUUM ANALYZE user_standings")
        cursor.execute("VACUUM ANALYZE outbox")


def plan(ask):
    """How PostgreSQL answers the statements that `ask` makes."""
    with CaptureQueriesContext(connection) as queries:
        ask()
    return "\n".join(explain(query["sql"]) for query in queries.captured_queries)


def explain(query):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (COSTS OFF) {query}")
        return "\n".join(line for (line,) in cursor.fetchall())


def users(after=None, **criteria):
    return lambda: DatabaseReads().users(UserCriteria(**criteria), after, 51)


def in_admin(**query):
    request = RequestFactory().get("/", query)
    request.user = UserRecord(roles=["operator"], status="active")
    return lambda: list(site.get_model_admin(UserRecord).get_changelist_instance(request).result_list)


PLACE = Position(timezone.now() - timezone.timedelta(hours=10), "01900000-0000-7000-8000-000000000600")

QUESTIONS = {
    "one user": (lambda: DatabaseReads().view("01900000-0000-7000-8000-000000000017"), "users_pkey"),
    "by email": (users(email="nobody@example.com"), "users_email_(unique|prefix_idx)"),
    "by prefix": (users(email_prefix="ab12"), "users_email_prefix_idx"),
    "by part": (users(text="ab12cd"), "users_search_idx"),
    "by role": (users(role="operator"), "users_operator_idx"),
    "by status": (users(status="blocked"), "user_standings_order_idx"),
    "first page": (users(), "users_created_idx"),
    "a later page": (users(after=PLACE), "users_created_idx"),
    "a later page by status": (users(after=PLACE, status="blocked"), "user_standings_order_idx"),
    "by status, in the admin pages": (in_admin(status="blocked"), "user_standings_order_idx"),
    "by status and age, in the admin pages": (
        in_admin(status="blocked", created="7"),
        r"user_standings_order_idx on user_standings\n.*Index Cond.*created_at",
    ),
    "by ids": (users(ids=["01900000-0000-7000-8000-000000000017"]), "users_pkey"),
    "since": (users(created_after=timezone.now()), "users_created_idx"),
    "who is to be unblocked": (
        lambda: list(
            UserRecord.objects.filter(blocked_until__lte=timezone.now()).order_by("blocked_until")[:100]
        ),
        "users_blocked_until_idx",
    ),
    "a history": (
        lambda: DatabaseReads().history("01900000-0000-7000-8000-000000000017", 0, 51),
        "outbox_user_version_unique",
    ),
    "the feed": (lambda: DatabaseReads().feed(3900, 51), "outbox_sequence"),
    "what is to be published": (lambda: outbox.batch(3900, 51), "outbox_sequence"),
}


def test_every_question_is_answered_by_its_index(crowd):
    plans = {question: plan(ask) for question, (ask, _) in QUESTIONS.items()}

    astray = {
        question: found
        for question, found in plans.items()
        if not re.search(QUESTIONS[question][1], found) or "Seq Scan" in found
    }
    assert not astray, astray


def test_numbering_looks_only_at_what_has_no_number(crowd):
    found = explain("SELECT id FROM outbox WHERE sequence IS NULL ORDER BY id LIMIT 500")
    assert re.search("outbox_unsequenced_idx|Index Cond: .sequence IS NULL", found), found


def test_a_page_is_not_sorted(crowd):
    """The index has the order: a page of a million users costs what a page of a thousand does."""
    assert "Sort" not in plan(users())
    assert "Sort" not in plan(users(after=PLACE))
    assert "Sort" not in plan(users(status="active"))
    assert "Sort" not in plan(in_admin(status="active"))


def test_a_plan_without_its_index_would_be_noticed(crowd):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; DROP INDEX users_search_idx")
        try:
            assert "Seq Scan" in plan(users(text="ab12cd"))
        finally:
            cursor.execute("ROLLBACK")


def test_every_table_has_a_model():
    assert {model._meta.db_table for model in OURS} == {
        "users",
        "user_standings",
        "outbox",
        "relay_position",
        "idempotency",
        "webhook_endpoints",
        "webhook_deliveries",
        "sessions",
        "refresh_tokens",
        "email_changes",
        "mails",
        "mail_position",
        "erasures",
    }
    assert all(isinstance(model._meta.pk, models.Field) for model in OURS)
