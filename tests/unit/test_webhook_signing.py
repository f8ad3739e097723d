"""Signatures, sealed secrets, back-off and addresses: what webhooks are made of, without a server."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from users.application.errors import InvalidWebhook
from users.infrastructure.webhooks import retries, signing
from users.infrastructure.webhooks.addresses import AddressRules, is_public
from users.infrastructure.webhooks.signing import SealedSecrets, SecretUnreadable

SPEC_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class TestSigning:
    def test_the_signature_is_the_one_of_the_official_library(self):
        moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
        ours = signing.signature(
            SPEC_SECRET, message_id="msg_1", timestamp=int(moment.timestamp()), body=b'{"a": "\xc3\xa9"}'
        )

        assert ours == Webhook(SPEC_SECRET).sign("msg_1", moment, '{"a": "é"}')

    def test_a_known_signature(self):
        """Computed once with openssl, so that both libraries cannot be wrong alike."""
        ours = signing.signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
            body=b'{"test": 2432232314}',
        )

        assert ours == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_there_is_one_signature_for_each_secret(self):
        box = SealedSecrets(["key"])
        secrets = [box.new()[0], box.new()[0]]

        headers = signing.headers(secrets, message_id="id", timestamp=1, body=b"{}")

        assert headers["webhook-id"] == "id"
        assert headers["webhook-timestamp"] == "1"
        assert headers["webhook-signature"].split(" ") == [
            signing.signature(secret, message_id="id", timestamp=1, body=b"{}") for secret in secrets
        ]


class TestSecrets:
    def test_a_new_one_has_32_random_bytes_and_is_not_to_be_read_when_sealed(self):
        plain, sealed = SealedSecrets(["key"]).new()

        assert len(base64.b64decode(plain.removeprefix("whsec_"))) == 32
        assert plain not in sealed
        assert SealedSecrets(["key"]).open(sealed) == plain
        assert SealedSecrets(["key"]).new()[0] != plain

    def test_after_the_key_has_changed_the_fallbacks_still_open_it(self):
        plain, sealed = SealedSecrets(["old"]).new()

        assert SealedSecrets(["new", "old"]).open(sealed) == plain
        with pytest.raises(SecretUnreadable):
            SealedSecrets(["new"]).open(sealed)

    def test_sealed_anew_it_needs_the_old_key_no_more(self):
        plain, sealed = SealedSecrets(["old"]).new()

        renewed = SealedSecrets(["new", "old"]).renewed(sealed)

        assert SealedSecrets(["new"]).open(renewed) == plain
        assert SealedSecrets(["new", "old"]).renewed(renewed) == renewed
        assert SealedSecrets(["other"]).renewed(sealed) == sealed


class TestBackOff:
    def test_it_begins_at_a_second_doubles_and_ends_at_an_hour(self):
        longest = [retries.delay(failures, None, draw=lambda low, high: high) for failures in range(1, 100)]

        assert longest[:4] == [1, 2, 4, 8]
        assert longest[12:] == [3600] * (len(longest) - 12)

    def test_up_to_a_quarter_is_left_to_chance(self):
        drawn = {retries.delay(5, None) for _ in range(200)}

        assert len(drawn) > 100
        assert all(12 <= seconds <= 16 for seconds in drawn)

    @pytest.mark.parametrize(("asked", "waits"), [(0.0, 1), (30.0, 30), (1e9, 3600)])
    def test_the_receivers_wish_counts_when_it_is_longer_but_no_longer_than_an_hour(self, asked, waits):
        assert retries.delay(1, asked, draw=lambda low, high: high) == waits


PRIVATE = [
    *(
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "168.63.129.16",
    ),
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1", "fc00::1"),
    *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "5f00::1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"),
    "64:ff9b::808:808",
]


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_what_is_not_everybodys_is_refused(self, address):
        assert not is_public(address)

    @pytest.mark.parametrize("address", PUBLIC)
    def test_what_is_public_is_not(self, address):
        assert is_public(address)

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://example.com/", "scheme"),
            ("ftp://example.com/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("gopher://example.com/", "scheme"),
            ("//example.com/", "scheme"),
            ("example.com", "scheme"),
            ("", "scheme"),
            ("https://", "invalid"),
            ("https:///path", "invalid"),
            ("https://user:pw@example.com/", "credentials"),
            ("https://user@example.com/", "credentials"),
            ("https://example.com:0/", "invalid"),
            ("https://example.com:99999/", "invalid"),
            ("https://example.com:x/", "invalid"),
            ("https://example.com/#part", "invalid"),
            ("https://exa mple.com/", "invalid"),
            ("https://example.com/\r\nX: 1", "invalid"),
            ("https://exämple.com/", "invalid"),
            ("https://example.com\\@127.0.0.1/", "invalid"),
            ("https://[::1", "invalid"),
            ("https://example.com/" + "x" * 2000, "too_long"),
            ("https://127.0.0.1/", "private_address"),
            ("https://[::1]/", "private_address"),
            ("https://[::ffff:169.254.169.254]/", "private_address"),
            ("https://169.254.169.254/latest/meta-data", "private_address"),
            ("https://127.1/", "private_address"),
            ("https://2130706433/", "private_address"),
            ("https://0x7f000001/", "private_address"),
            ("https://0177.0.0.1/", "invalid"),
            ("https://localhost/", "private_address"),
            ("https://LOCALHOST./", "private_address"),
            ("https://a.localhost/", "private_address"),
            ("https://168.63.129.16/", "private_address"),
            ("https://a]b/", "invalid"),
            ("https://a..b/", "invalid"),
            ("https://.example.com/", "invalid"),
            ("https://example.com../", "invalid"),
            ("https://%61.example.com/", "invalid"),
            ("https://>,(%_~%}&|`/", "invalid"),
            (f"https://{'a' * 64}.example.com/", "invalid"),
            (f"https://{'.'.join(['a' * 62] * 5)}/", "invalid"),
        ],
    )
    def test_by_its_form_an_address_may_be_refused_at_once(self, url, reason):
        with pytest.raises(InvalidWebhook) as refused:
            AddressRules(private_addresses=False).check_url(url)

        assert (refused.value.field, refused.value.reason) == ("url", reason)

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/hooks?a=b",
            "https://xn--exmple-cua.com:8443/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "HTTPS://Example.COM",
            "https://my_host-1.example.com./",
        ],
    )
    def test_others_pass(self, url):
        AddressRules(private_addresses=False).check_url(url)

    def test_where_private_addresses_are_allowed_plain_http_is_too_but_nothing_else(self):
        rules = AddressRules(private_addresses=True)

        for url in ("http://127.0.0.1:8000/", "http://receiver.internal/", "https://[::1]/"):
            rules.check_url(url)
        for url in ("ftp://127.0.0.1/", "http://a:b@127.0.0.1/", "http://127.0.0.1:0/"):
            with pytest.raises(InvalidWebhook):
                rules.check_url(url)
