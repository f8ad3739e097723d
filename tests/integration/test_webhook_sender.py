"""Sending one message: to receivers that are slow, broken or hostile, and to what is not theirs."""

import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection, connections
from httpcore import ConnectError

from tests.builders import NOW
from tests.together import eventually, together
from tests.webhook_receiver import Receiver
from users.application.webhook_endpoint import Endpoint, Message
from users.infrastructure.webhooks.addresses import AddressRules
from users.infrastructure.webhooks.sender import HttpSender, _retry_after, resolve
from users.infrastructure.webhooks.signing import SealedSecrets

SECRETS = SealedSecrets(["key"])
MESSAGE = Message(
    event_id="01a2046b-5b5e-7bd2-a4d5-6b1c3ad9f0c1",
    event_type="user.created",
    sequence=1,
    body='{"sequence":1,"name":"Zoë"}'.encode(),
)
PATIENT = 30
IMPATIENT = 0.4
"""Seconds that a sender gives a receiver: so few where it is to give up. There even a good one may be given
up by a machine that is slow for a while."""


def now():
    return datetime.now(UTC)


def sender(*, private=True, timeout=PATIENT, **parts):
    rules = AddressRules(private_addresses=private)
    return HttpSender(SECRETS, rules, timeout_seconds=timeout, clock=now, **parts)


def endpoint(url, secret, **fields):
    fresh = {
        "id": "01a2046b-5b5e-7bd2-a4d5-6b1c3ad9f0c2",
        "description": "",
        "event_types": (),
        "enabled": True,
        "position": 0,
        "next_attempt_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Endpoint(url=url, secret=secret, **(fresh | fields))


@contextmanager
def deaf(address, port=0):
    """A port whose queue is full: further connections are neither taken nor refused."""
    with socket.socket() as listening, ExitStack() as fillers:
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture
def receiver():
    receiver = Receiver().up()
    yield receiver
    receiver.down()


@pytest.fixture
def target(receiver):
    """An endpoint that leads to the receiver, which knows its secret."""
    plain, sealed = SECRETS.new()
    receiver.secrets = [plain]
    return endpoint(receiver.url, sealed)


def test_a_message_arrives_as_it_is_signed_and_is_accepted(receiver, target):
    began = time.time()

    answer = sender().send(target, MESSAGE)

    assert (answer.status, answer.error) == (204, None)
    assert receiver.taken == [{"sequence": 1, "name": "Zoë"}]
    headers = receiver.seen[0]
    assert headers["webhook-id"] == MESSAGE.event_id
    assert int(began) <= int(headers["webhook-timestamp"]) <= time.time()
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("user-service")
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "cookie" not in headers
    assert "authorization" not in headers


def test_while_the_previous_secret_is_valid_both_sign_and_after_that_the_new_one_alone(receiver, target):
    new, sealed = SECRETS.new()
    rotated = target.rotated(sealed, now())
    over = target.rotated(sealed, now() - timedelta(hours=25))

    assert sender().send(rotated, MESSAGE).error is None  # the receiver knows only the old one
    assert sender().send(over, MESSAGE).status == 401
    receiver.secrets = [new]
    assert sender().send(rotated, MESSAGE).error is None
    assert sender().send(over, MESSAGE).error is None


@pytest.mark.parametrize(
    ("mischief", "status", "error"),
    [
        ("500", 500, "status"),
        ("404", 404, "status"),
        ("410", 410, "status"),
        ("304", 304, "redirect"),
        ("redirect", 307, "redirect"),
        ("close", None, "broken_answer"),
        ("nonsense", None, "broken_answer"),
        ("drip_body", 200, None),
        ("flood", 200, None),
    ],
)
def test_whatever_the_receiver_does_there_is_an_answer_in_time(receiver, target, mischief, status, error):
    receiver.mischief.append(mischief)
    receiver.hang_seconds = 100
    began = time.monotonic()

    answer = sender().send(target, MESSAGE)

    assert time.monotonic() - began < PATIENT
    assert (answer.status, answer.error) == (status, error)
    assert len(receiver.seen) == 1  # no redirect followed, nothing sent twice


@pytest.mark.parametrize("mischief", ["hang", "drip"])
def test_one_that_does_not_come_to_an_end_is_given_up(receiver, target, mischief):
    receiver.mischief.append(mischief)
    receiver.hang_seconds = 100
    began = time.monotonic()

    answer = sender(timeout=IMPATIENT).send(target, MESSAGE)

    assert IMPATIENT <= time.monotonic() - began < PATIENT
    assert (answer.status, answer.error) == (None, "timeout")
    assert len(receiver.seen) <= 1  # none where the time was over before it was sent


def test_of_an_endless_answer_no_more_is_taken_than_fits_into_buffers(receiver, target):
    receiver.mischief.append("flood")

    assert sender().send(target, MESSAGE).status == 200

    eventually(lambda: receiver.at_once == 0)
    assert 0 < receiver.flooded < 2**24
    assert len(receiver.taken) == 1


def test_a_closed_port_and_a_name_that_leads_nowhere(receiver, target):
    def nobody(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    receiver.down()

    assert sender().send(target, MESSAGE).error == "connection_failed"
    assert sender(resolve=nobody).send(target, MESSAGE).error == "unresolvable"


def test_dns_that_hangs_counts_in_the_deadline(target):
    done = threading.Event()
    hanging = sender(timeout=IMPATIENT, resolve=lambda host, port: [done.wait(100)])
    began = time.monotonic()

    answer = hanging.send(target, MESSAGE)

    done.set()
    assert answer.error == "timeout"
    assert time.monotonic() - began < PATIENT


def test_a_receiver_that_takes_no_connection_counts_in_the_deadline(target):
    with deaf("127.0.0.1") as port:
        lost = endpoint(f"http://127.0.0.1:{port}/", target.secret)
        answer = sender(timeout=IMPATIENT).send(lost, MESSAGE)

    assert answer.error == "timeout"


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7),
        (503, "120", 120),
        (500, "7", None),
        (429, "soon", None),
        (429, "-1", None),
        (429, "", None),
        (503, "Wed, 01 Jul 2026 12:01:30 +99999999999999999999", None),
        (503, "Mon, 01 Jan 0001 00:00:00 +2300", 0),
    ],
)
def test_what_the_receiver_asks_for_is_heard_when_it_is_busy(status, header, seconds):
    response = httpx.Response(status, headers={"retry-after": header})

    assert _retry_after(response, NOW) == seconds


def test_a_date_to_come_back_at_is_understood_too():
    response = httpx.Response(503, headers={"retry-after": "Wed, 01 Jul 2026 12:01:30 GMT"})

    assert _retry_after(response, NOW) == 90


def test_the_wish_to_be_left_alone_comes_with_the_answer(receiver, target):
    receiver.mischief.append("busy")

    answer = sender().send(target, MESSAGE)

    assert (answer.status, answer.error, answer.retry_after) == (429, "status", 7)


def test_a_secret_that_no_key_opens_is_an_answer_not_a_crash(receiver, target):
    lost = endpoint(receiver.url, SealedSecrets(["other"]).new()[1])

    assert sender().send(lost, MESSAGE).error == "secret_unreadable"
    assert receiver.seen == []


def test_a_previous_secret_that_no_key_opens_holds_up_nothing(receiver, target):
    lost = endpoint(receiver.url, SealedSecrets(["other"]).new()[1])

    assert sender().send(lost.rotated(target.secret, now()), MESSAGE).error is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ssl.SSLError(1, "certificate required"), "tls_failed"),
        (OSError("no route"), "broken_answer"),
        (RuntimeError("unforeseen"), "broken_answer"),
    ],
)
def test_whatever_is_raised_while_it_is_sent_is_an_answer_without_the_address(
    target, monkeypatch, fault, error, caplog
):
    async def fail(*_, **__):
        raise fault

    monkeypatch.setattr(httpx.AsyncClient, "send", fail)

    assert sender().send(target, MESSAGE).error == error
    assert target.url not in caplog.text
    assert ("webhook_attempt_failed" in caplog.text) == isinstance(fault, RuntimeError)


@pytest.mark.parametrize("fault", [ssl.SSLError(1, "bad record"), OSError(), RuntimeError()])
def test_what_was_accepted_stays_so_whatever_comes_behind_the_status(receiver, target, monkeypatch, fault):
    async def fail(*_):
        raise fault

    monkeypatch.setattr("users.infrastructure.webhooks.sender._read_a_little", fail)
    monkeypatch.setattr(httpx.Response, "aclose", fail)

    assert sender().send(target, MESSAGE).error is None


def test_while_a_receiver_is_waited_for_no_connection_of_a_pool_is_kept(database, target, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)  # as the settings have it with a pool
    connection.close()
    connection.ensure_connection()
    held = []

    def look(host, port):
        held.append(connection_here.connection is not None)
        return ["127.0.0.1"]

    connection_here = connections[connection.alias]  # this thread's: names are resolved in another
    sender(resolve=look).send(target, MESSAGE)

    assert held == [False]


def test_several_messages_may_share_a_connection_and_a_broken_one_is_replaced(receiver, target):
    with sender().line() as send:
        for mischief in (None, "close", None, "flood", None):
            receiver.mischief.extend([mischief] if mischief else [])
            send(target, MESSAGE)

    assert len(receiver.taken) == 4


def test_so_is_one_on_which_an_answer_was_given_up(receiver, target):
    receiver.mischief.append("hang")
    with sender(timeout=IMPATIENT).line() as send:
        assert send(target, MESSAGE).error == "timeout"
        eventually(lambda: send(target, MESSAGE).error is None)


def test_proxies_of_the_environment_are_not_asked(receiver, target, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert sender().send(target, MESSAGE).error is None


class TestAddresses:
    """Plain HTTP would be refused before the address is looked at, so these are https; no TLS is spoken."""

    def send(self, receiver, secret, addresses, host="hooks.example.com"):
        url = f"https://{host}:{receiver.port}/"
        return sender(private=False, resolve=addresses).send(endpoint(url, secret), MESSAGE)

    @pytest.mark.parametrize(
        "addresses",
        [
            ["127.0.0.1"],
            ["::1"],
            ["169.254.169.254"],
            ["10.0.0.1"],
            ["::ffff:127.0.0.1"],
            ["64:ff9b::7f00:1"],
            ["100.64.0.1"],
            ["fe80::1%lo"],
            ["8.8.8.8", "127.0.0.1"],  # any one is enough
            ["2606:4700:4700::1111", "::ffff:10.0.0.1"],
        ],
    )
    def test_a_name_that_leads_to_a_private_address_is_not_called(self, receiver, target, addresses):
        answer = self.send(receiver, target.secret, lambda host, port: addresses)

        assert (answer.error, answer.status) == ("address_refused", None)
        assert receiver.seen == []

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.1", "2130706433", "localhost"])
    def test_nor_is_one_written_in_the_address_itself(self, receiver, target, host):
        assert self.send(receiver, target.secret, resolve, host).error in {"address_refused", "unresolvable"}
        assert receiver.seen == []

    def test_plain_http_is_not_spoken_even_to_public_addresses(self, receiver, target):
        url = f"http://hooks.example.com:{receiver.port}/"
        plain = sender(private=False, resolve=lambda host, port: ["8.8.8.8"])

        assert plain.send(endpoint(url, target.secret), MESSAGE).error == "address_refused"

    def test_the_connection_goes_to_the_address_that_was_checked_whatever_dns_says_next(
        self, target, receiver, monkeypatch
    ):
        """Rebinding: the first answer is public, every later one is ours."""
        answers = chain([["8.8.8.8"]], repeat(["127.0.0.1"]))
        asked, reached = [], []

        def rebinding(host, port):
            asked.append(host)
            return next(answers)

        async def connect(self, host, port, **options):
            reached.append(host)
            raise ConnectError

        monkeypatch.setattr("httpcore._backends.auto.AutoBackend.connect_tcp", connect)
        rebound = sender(private=False, resolve=rebinding)
        lured = endpoint(f"https://hooks.example.com:{receiver.port}/", target.secret)

        assert rebound.send(lured, MESSAGE).error == "connection_failed"
        assert (asked, reached) == (["hooks.example.com"], ["8.8.8.8"])
        assert rebound.send(lured, MESSAGE).error == "address_refused"
        assert len(reached) == 1

    def test_the_next_address_is_tried_when_the_first_takes_no_connection(self, receiver, target):
        both = sender(resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])
        url = f"http://hooks.example.com:{receiver.port}/hook"

        assert both.send(endpoint(url, target.secret), MESSAGE).error is None
        assert receiver.seen[0]["host"] == f"hooks.example.com:{receiver.port}"

    def test_a_first_address_that_swallows_packets_leaves_time_for_the_next(self, receiver, target):
        both = sender(timeout=1, resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])
        url = f"http://hooks.example.com:{receiver.port}/hook"
        with deaf("127.0.0.2", receiver.port):
            # More than once only where the machine is slow.
            eventually(lambda: both.send(endpoint(url, target.secret), MESSAGE).error is None)


def certificate(folder, *names):
    """A self-signed certificate for these names, and a context that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(path)
    return served, ssl.create_default_context(cafile=path)


def refuse_strangers(listening, context):
    """Sends the alert and stays, so that it is read before the end of the connection."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    taken, _ = listening.accept()
    with taken:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                taken.sendall(outgoing.read())
                incoming.write(taken.recv(65536))
            except ssl.SSLError:
                taken.sendall(outgoing.read())
                taken.recv(65536)  # until we hang up
                return


class TestTls:
    @pytest.fixture
    def secure(self, receiver, target, tmp_path):
        """The receiver behind TLS, with a certificate for hooks.example.com; the names it was called by."""
        served, trusted = certificate(tmp_path, "hooks.example.com")
        called = []
        served.sni_callback = lambda connection, name, context: called.append(name)
        receiver.down()
        receiver.up(served)
        parts = {"tls": trusted, "resolve": lambda host, port: ["127.0.0.1"]}
        return lambda host: sender(**parts).send(
            endpoint(f"https://{host}:{receiver.port}/", target.secret), MESSAGE
        ), called

    def test_the_certificate_is_the_one_of_the_name_though_the_connection_goes_to_the_address(
        self, secure, receiver
    ):
        send, called = secure

        assert send("hooks.example.com").error is None
        assert called == ["hooks.example.com"]
        assert receiver.seen[0]["host"] == f"hooks.example.com:{receiver.port}"

    @pytest.mark.parametrize("host", ["others.example.com", "127.0.0.1"])
    def test_a_certificate_for_another_name_is_refused(self, secure, receiver, host):
        send, _ = secure

        assert send(host).error == "tls_failed"
        assert receiver.seen == []

    def test_a_receiver_that_wants_a_certificate_of_us_is_told_of(self, target, tmp_path):
        """With TLS 1.3 that comes out only when the handshake is over on our side."""
        served, trusted = certificate(tmp_path, "hooks.example.com")
        served.verify_mode = ssl.CERT_REQUIRED
        served.load_verify_locations(tmp_path / "certificate.pem")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            demanding = threading.Thread(target=refuse_strangers, args=(listening, served))
            demanding.start()
            url = f"https://hooks.example.com:{listening.getsockname()[1]}/"
            ours = sender(tls=trusted, resolve=lambda host, port: ["127.0.0.1"])
            answer = ours.send(endpoint(url, target.secret), MESSAGE)
            demanding.join()

        assert (answer.status, answer.error) == (None, "tls_failed")

    def test_one_that_nobody_vouches_for_is_refused(self, secure, receiver, target):
        unknown = sender(resolve=lambda host, port: ["127.0.0.1"])
        url = f"https://hooks.example.com:{receiver.port}/"

        assert unknown.send(endpoint(url, target.secret), MESSAGE).error == "tls_failed"


def test_many_threads_may_send_at_once(receiver, target):
    one = sender()

    answers = together([lambda: one.send(target, MESSAGE)] * 10)

    assert [answer.status for answer in answers] == [204] * 10
