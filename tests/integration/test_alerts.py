"""deploy/prometheus/rules.yml: what it watches is there, by name and by label."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.yaml_text import read_yaml
from users.infrastructure import metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = [
    rule
    for group in read_yaml((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
SELECTOR = re.compile(r'\b(user_\w+)(?:\{(\w+)="(\w+)"\})?')


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_watches_metrics_and_labels_that_exist(database, rule):
    samples = [
        sample
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    ]
    watched = SELECTOR.findall(rule["expr"])
    assert watched
    for name, label, value in watched:
        assert any(
            sample.name == name and (not label or sample.labels.get(label) == value) for sample in samples
        ), name
    for label in re.findall(r"by \((\w+)\)", rule["expr"]):
        assert any(sample.name == watched[0][0] and label in sample.labels for sample in samples), label


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_operations_md_what_to_do(rule):
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert f"`{rule['alert']}`" in (ROOT / "docs/operations.md").read_text()


def test_the_alerts_are_those_that_were_asked_for():
    assert {rule["alert"] for rule in RULES} == {
        "RelayHeartbeatOld",
        "EventsLate",
        "EventsSetAside",
        "RelayFailures",
        "WebhookPaused",
        "AccountsUnderAttack",
        "LoginsRefusedOften",
        "CallersLimited",
        "MailsLate",
        "ErasuresUnswept",
        "MailsNotQueued",
        "MailsGivenUp",
        "MailsFailing",
    }
