"""How many amounts are observed at once."""

import random

from prometheus_client import CollectorRegistry, Histogram, generate_latest

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
