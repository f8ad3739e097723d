"""What is counted of many at once."""

import random
from collections import Counter
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tests.e2e.both_ways import counted
from users.api.request_metrics import Figures, Kind, count
from users.infrastructure import metrics
from users.infrastructure.metrics import observe_all

BOUNDS = (0.25, 0.5, 1, 64)


def page_of(amounts: list[float], *, together: bool) -> str:
    registry = CollectorRegistry()
    histogram = Histogram("seconds", "Some.", buckets=BOUNDS, registry=registry)
    if together:
        observe_all(histogram, amounts)
    else:
        for amount in amounts:
            histogram.observe(amount)
    return "".join(
        line for line in generate_latest(registry).decode().splitlines(True) if "_created" not in line
    )


def test_many_are_observed_as_each_would_be():
    dice = random.Random(7)
    amounts = [*BOUNDS, 0.0, 0.125, 0.75, 4.0, 1024.0]  # the bounds themselves too; their sums are exact
    for number in [*range(12), 500]:
        some = dice.choices(amounts, k=number)
        assert page_of(some, together=True) == page_of(some, together=False)


Timed = tuple[Figures | None, float, float]


def requests(dice: random.Random) -> list[Timed]:
    kinds = [
        Kind(method, view, view is not None, status, transport, charset, template)
        for method in ("GET", "BREW")
        for view in ("user", None)
        for status in (200, 404)
        for transport in ("http", "https")
        for charset, template in ((None, None), ("utf-8", "None"))
    ]
    return [
        (
            dice.choice(
                [None, Figures(dice.choice(kinds), 10, dice.choice([None, 300]), dice.random() < 0.5)]
            ),
            dice.random(),
            dice.random(),
        )
        for _ in range(300)
    ]


def added(batches: Sequence[Sequence[Timed]]) -> Counter[str]:
    before = counted(metrics.page())
    for batch in batches:
        count(batch)
    return counted(metrics.page()) - before


def test_many_requests_are_counted_as_each_would_be(database):
    timed = requests(random.Random(8))
    together = added([timed])
    assert together == added([[one] for one in timed])
    assert together["django_http_requests_before_middlewares_total"] == len(timed)
