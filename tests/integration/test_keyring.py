"""Where signing keys come from, how running processes follow them, and what a gateway sees of a rotation."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from structlog.testing import capture_logs

from tests.builders import a_user
from tests.fixtures import Api, People
from tests.together import PATIENCE
from users import wiring
from users.infrastructure import key_folder, key_rotation
from users.infrastructure.key_folder import KeptKey, KeyFolder, KeysBroken, State, WatchedKeys
from users.infrastructure.key_rotation import PUBLISH_FOR, RETIRE_SLACK, Act, Rotation
from users.infrastructure.keyring import (
    JWKS_MAX_AGE_SECONDS,
    NEW_KEYS,
    FixedKeys,
    Keyring,
    Keys,
    SigningKey,
    new_pem,
    pems_in,
    thumbprint,
)
from users.infrastructure.tokens import SignedAccessTokens

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFETIME = timedelta(minutes=5)


def pem() -> bytes:
    """Of the kind that is made fastest."""
    return new_pem("ES256")


def keyring_of(keys: Keys) -> Keyring:
    return Keyring(keys, issuer="user-service", audience="services")


def tokens_of(keys: Keys) -> SignedAccessTokens:
    return SignedAccessTokens(keyring_of(keys), lifetime=LIFETIME)


def token_of(keys: Keys) -> str:
    return tokens_of(keys).issue(a_user(), uuid4())


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def believes(keys: Keys, token: str) -> bool:
    try:
        tokens_of(keys).read(token.encode())
    except Exception:  # noqa: BLE001 - simplejwt's, of whatever kind
        return False
    return True


class Clock:
    """Of rotations; what is signed has the time of day."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path / "keys")
    folder.begin(pem, NOW)
    return folder


@pytest.fixture
def rotation(folder: KeyFolder, clock: Clock) -> Rotation:
    return Rotation(folder, token_lifetime=LIFETIME, every=timedelta(days=90), clock=clock)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes look at the folder whenever they need a key."""
    monkeypatch.setattr(key_folder, "LOOK_SECONDS", 0.0)


# --- Ids and public keys --------------------------------------------------------------------------------


def test_the_example_of_rfc_7638_has_the_thumbprint_that_it_says() -> None:
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE"
        "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q"
        "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
        "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_private_members_are_never_published() -> None:
    keys = FixedKeys([new_pem(algorithm) for algorithm in NEW_KEYS])
    published = keyring_of(keys).jwks()["keys"]
    assert [set(jwk) - {"kid", "alg", "use"} for jwk in published] == [
        {"kty", "n", "e"},
        {"kty", "crv", "x", "y"},
        {"kty", "crv", "x"},
    ]
    assert [jwk["alg"] for jwk in published] == ["RS256", "ES256", "EdDSA"]


@pytest.mark.parametrize("make", ["RSA 1024", "P-384", "Ed448", "public", "encrypted"])
def test_other_keys_than_ours_are_refused(make: str) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

    def private(key: Any, encryption: Any = form.NoEncryption()) -> bytes:  # noqa: B008
        return bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption))

    made = {
        "RSA 1024": lambda: private(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        "P-384": lambda: private(ec.generate_private_key(ec.SECP384R1())),
        "Ed448": lambda: private(ed448.Ed448PrivateKey.generate()),
        "public": lambda: SigningKey.load(pem()).public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        ),
        "encrypted": lambda: private(NEW_KEYS["ES256"](), form.BestAvailableEncryption(b"x" * 20)),
    }[make]()
    with pytest.raises((ValueError, TypeError)):
        FixedKeys([made])


# --- Three sources --------------------------------------------------------------------------------------


def test_of_several_fixed_keys_the_first_signs_and_all_are_believed() -> None:
    old, new = pem(), pem()
    before, after = FixedKeys([old]), FixedKeys([new, old])
    assert believes(after, token_of(before))
    assert not believes(before, token_of(after))
    assert kid_of(token_of(after)) == SigningKey.load(new).kid


def test_keys_come_from_the_environment(settings: Any, database: None) -> None:
    first, second = new_pem("EdDSA").decode(), pem().decode()
    settings.JWT_SIGNING_KEYS = f"{first}{second}"
    published = wiring.service().keyring.jwks()["keys"]
    assert [jwk["alg"] for jwk in published] == ["EdDSA", "ES256"]
    assert wiring.key_folder() is None


def test_a_text_without_a_key_is_refused_and_not_quoted() -> None:
    secret = pem().decode().replace("BEGIN", "BEGUN")
    with pytest.raises(ValueError, match="no PEM") as refusal:
        pems_in(secret)
    assert "MIG" not in str(refusal.value)


def test_keys_come_from_several_files(settings: Any, database: None, tmp_path: Path) -> None:
    (tmp_path / "new.pem").write_bytes(new_pem("EdDSA"))
    (tmp_path / "old.pem").write_bytes(pem())
    settings.JWT_SIGNING_KEY_FILE = f"{tmp_path}/new.pem, {tmp_path}/old.pem"
    published = wiring.service().keyring.jwks()["keys"]
    assert [jwk["alg"] for jwk in published] == ["EdDSA", "ES256"]


def test_a_development_machine_keeps_the_key_that_it_has(
    settings: Any, database: None, tmp_path: Path
) -> None:
    (tmp_path / "signing_key.pem").write_bytes(own := pem())
    settings.LOCAL_DIR, settings.JWT_KEYS_DIR = tmp_path, str(tmp_path / "keys")
    (jwk,) = wiring.service().keyring.jwks()["keys"]
    assert jwk["kid"] == SigningKey.load(own).kid


def test_without_any_key_the_first_is_of_p_256(settings: Any, database: None, tmp_path: Path) -> None:
    settings.LOCAL_DIR, settings.JWT_KEYS_DIR = tmp_path, str(tmp_path / "keys")
    (jwk,) = wiring.service().keyring.jwks()["keys"]
    assert (jwk["alg"], jwk["crv"]) == ("ES256", "P-256")


def test_an_rsa_key_made_here_has_3072_bits() -> None:
    """ASVS 5.0 11.2.3 asks for a security of 128 bits."""
    assert getattr(SigningKey.load(new_pem("RS256")).private, "key_size", None) == 3072


# --- The folder -----------------------------------------------------------------------------------------


def test_all_who_start_at_once_on_no_folder_agree_on_one_key(tmp_path: Path) -> None:
    def start(_: int) -> set[str]:
        folder = KeyFolder(tmp_path / "keys")
        folder.begin(pem, NOW)
        return set(WatchedKeys(folder).ring().by_kid)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(start, range(8)))

    assert all(kids == found[0] for kids in found)
    assert len(list((tmp_path / "keys").glob("*.pem"))) == len(found[0]) == 1


def test_keys_are_for_their_owner_only(folder: KeyFolder) -> None:
    (file,) = folder.path.glob("*.pem")
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.readable_by_others() == []
    file.chmod(0o640)
    assert folder.readable_by_others() == [file]


def test_what_a_crash_leaves_behind_goes_with_the_next_change_and_nothing_else(folder: KeyFolder) -> None:
    for name in (".new-x1", f"{'k' * 43}.pem", "notes.txt", "mine.pem"):
        (folder.path / name).write_bytes(b"x")
    folder.write(kept := folder.read())
    assert sorted(file.name for file in folder.path.iterdir()) == sorted(
        ["keyring.json", "lock", "mine.pem", "notes.txt", f"{kept[0].kid}.pem"]
    )


def entry(kid: str = "k" * 43, state: str = "active", since: str = "2026-01-01T00:00:00Z") -> dict[str, str]:
    return {"kid": kid, "algorithm": "ES256", "state": state, "since": since}


BROKEN = {
    "empty": b"",
    "half": b'{"keys": [{"kid": "',
    "list": b"[]",
    "no keys": b'{"keys": []}',
    "none active": json.dumps({"keys": [entry(state="retiring")]}).encode(),
    "two active": json.dumps({"keys": [entry(), entry("l" * 43)]}).encode(),
    "twice": json.dumps({"keys": [entry(), entry(state="retiring")]}).encode(),
    "unknown state": json.dumps({"keys": [entry(state="resting")]}).encode(),
    "a path for an id": json.dumps({"keys": [entry("../../../etc/passwd")]}).encode(),
    "no zone": json.dumps({"keys": [entry(since="2026-01-01T00:00:00")]}).encode(),
    "deep": b"[" * 100_000,
    "no such file": json.dumps({"keys": [entry()]}).encode(),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_nobody_starts_with_a_broken_folder(folder: KeyFolder, broken: str) -> None:
    (folder.path / "keyring.json").write_bytes(BROKEN[broken])
    with pytest.raises(KeysBroken, match="No such file" if broken == "no such file" else "is damaged"):
        WatchedKeys(folder)


def test_a_key_under_the_id_of_another_is_refused(folder: KeyFolder) -> None:
    (file,) = folder.path.glob("*.pem")
    file.write_bytes(pem())
    with pytest.raises(KeysBroken, match="is another key"):
        WatchedKeys(folder)


# --- Running processes follow ---------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_running_process_keeps_the_last_good_ring_and_says_so_once(
    folder: KeyFolder, rotation: Rotation, content: bytes
) -> None:
    keys, good = WatchedKeys(folder), folder.read()
    token = token_of(keys)
    (folder.path / "keyring.json").write_bytes(content)
    with capture_logs() as logs:
        for _ in range(5):
            assert believes(keys, token)
            assert kid_of(token_of(keys)) == good[0].kid
    assert [(line["log_level"], line["event"]) for line in logs] == [("error", "keyring_broken")]

    folder.write(good)
    rotation.replace_at_once()
    assert not believes(keys, token)


@pytest.mark.usefixtures("at_once")
def test_a_ring_that_is_gone_is_a_broken_one(folder: KeyFolder) -> None:
    keys = WatchedKeys(folder)
    (folder.path / "keyring.json").unlink()
    with capture_logs() as logs:
        assert believes(keys, token_of(keys))
    assert [line["event"] for line in logs] == ["keyring_broken"]


def test_a_change_is_noticed_within_a_second_and_looked_for_no_oftener(
    folder: KeyFolder, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    keys = WatchedKeys(folder)
    looks = []
    monkeypatch.setattr(folder, "change", lambda: looks.append(moment) or KeyFolder.change(folder))
    rotation.step(begin=True)
    for moment in (1000.1, 1000.5, 1000.99):  # noqa: B007 - the clock above reads it
        assert len(keys.ring().by_kid) == 1
    assert looks == []
    moment = 1001.0
    assert len(keys.ring().by_kid) == 2
    looks.clear()
    moment = 1001.9
    assert len(keys.ring().by_kid) == 2
    assert looks == []


def test_an_unknown_key_is_looked_for_at_once_and_waited_for(
    folder: KeyFolder, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = WatchedKeys(folder)
    rotation.replace_at_once()
    token = token_of(WatchedKeys(folder))
    reading = threading.Event()

    def slowly() -> list[KeptKey]:
        reading.set()
        time.sleep(0.05)
        return KeyFolder.read(folder)

    monkeypatch.setattr(folder, "read", slowly)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(believes, keys, token)
        reading.wait(PATIENCE)
        assert all(pool.map(lambda _: believes(keys, token), range(7)))
        assert first.result(PATIENCE)


def test_unknown_keys_cost_no_reading(
    folder: KeyFolder, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = WatchedKeys(folder)
    rotation.replace_at_once()
    token = token_of(WatchedKeys(folder))
    rotation.replace_at_once()
    reads = []
    monkeypatch.setattr(folder, "read", lambda: reads.append(1) or KeyFolder.read(folder))
    for _ in range(50):
        assert not believes(keys, token)
    assert len(reads) == 1  # for the change that there was

    (folder.path / "keyring.json").write_bytes(b"broken")
    for _ in range(50):
        assert not believes(keys, token)
    assert len(reads) == 2  # the next try is a second away


def test_asking_for_keys_waits_for_nobody_who_reads_them(
    folder: KeyFolder, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_folder, "LOOK_SECONDS", 0.0)
    keys = WatchedKeys(folder)
    rotation.step(begin=True)
    reading, go_on = threading.Event(), threading.Event()

    def slowly() -> list[KeptKey]:
        reading.set()
        go_on.wait(PATIENCE)
        return KeyFolder.read(folder)

    monkeypatch.setattr(folder, "read", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(keys.ring)
        reading.wait(PATIENCE)
        assert len(pool.submit(keys.ring).result(PATIENCE).by_kid) == 1
        go_on.set()
        assert len(first.result(PATIENCE).by_kid) == 2


# --- Steps of a rotation --------------------------------------------------------------------------------


def states(folder: KeyFolder) -> list[State]:
    return [key.state for key in folder.read()]


def test_a_rotation_publishes_waits_switches_waits_and_retires(
    folder: KeyFolder, rotation: Rotation, clock: Clock
) -> None:
    (old,) = folder.read()
    assert rotation.step() is None
    clock.now += timedelta(days=90)
    published = rotation.step()
    assert published is not None
    assert (published.act, states(folder)) == (Act.PUBLISH, [State.ACTIVE, State.PUBLISHED])
    for act, wait, after in (
        (Act.SWITCH, PUBLISH_FOR, [State.ACTIVE, State.RETIRING]),
        (Act.RETIRE, LIFETIME + RETIRE_SLACK, [State.ACTIVE]),
    ):
        clock.now += wait - timedelta(seconds=1)
        assert rotation.step() is None
        clock.now += timedelta(seconds=1)
        step = rotation.step()
        assert step is not None
        assert (step.act, states(folder)) == (act, after)
        assert rotation.step() is None
    assert [key.kid for key in folder.read()] == [published.kid]
    assert not (folder.path / f"{old.kid}.pem").exists()


def test_the_waits_are_as_long_as_what_they_wait_for() -> None:
    assert timedelta(seconds=JWKS_MAX_AGE_SECONDS) < PUBLISH_FOR
    assert timedelta(seconds=30) <= RETIRE_SLACK


def test_two_who_step_at_once_make_one_step(folder: KeyFolder, rotation: Rotation) -> None:
    with ThreadPoolExecutor(8) as pool:
        steps = list(pool.map(lambda _: rotation.step(begin=True), range(8)))
    assert len([step for step in steps if step]) == 1
    assert states(folder) == [State.ACTIVE, State.PUBLISHED]


def test_a_leaked_key_and_all_others_are_gone_at_once(folder: KeyFolder, rotation: Rotation) -> None:
    rotation.step(begin=True)
    keys = WatchedKeys(folder)
    stolen = token_of(keys)
    new, gone = rotation.replace_at_once("EdDSA")
    keys = WatchedKeys(folder)
    assert not believes(keys, stolen)
    assert list(keys.ring().by_kid) == [new]
    assert keys.ring().active.algorithm == "EdDSA"
    assert len(gone) == 2
    assert [file.stem for file in folder.path.glob("*.pem")] == [new]


# --- What others see of it ------------------------------------------------------------------------------


class Gateway:
    """Verifies tokens offline with PyJWT, and asks for the keys as seldom as their answer allows."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring, self._clock = keyring, clock
        self._fetched: datetime | None = None
        self._keys: dict[str, jwt.PyJWK] = {}

    def accepts(self, token: str) -> bool:
        age = self._fetched and (self._clock.now - self._fetched).total_seconds()
        if age is None or age >= JWKS_MAX_AGE_SECONDS:
            published = jwt.PyJWKSet.from_dict(json.loads(json.dumps(self._keyring.jwks())))
            self._keys = {str(key.key_id): key for key in published.keys}
            self._fetched = self._clock.now
        key = self._keys.get(kid_of(token))
        if key is None:
            return False
        jwt.decode(token, key, [key.algorithm_name], audience="services", issuer="user-service")
        return True


def refused_in_a_rotation(folder: KeyFolder, rotation: Rotation, clock: Clock) -> int:
    """How many tokens a gateway refuses that are in time, at every half minute of a rotation to another
    algorithm. Several gateways, for each has read the keys at another moment."""
    keyring = keyring_of(keys := WatchedKeys(folder))
    gateways = [Gateway(keyring, clock) for _ in range(10)]
    alive: list[tuple[datetime, str]] = []
    refused, first = 0, keys.ring().active.kid
    for tick in range(60):
        rotation.step("EdDSA", begin=tick == len(gateways))
        alive = [(issued, token) for issued, token in alive if clock.now - issued < LIFETIME]
        alive.append((clock.now, token_of(keys)))
        for gateway in gateways[: tick + 1]:
            refused += sum(not gateway.accepts(token) for _, token in alive)
        clock.now += timedelta(seconds=30)
    assert first not in {key.kid for key in folder.read()}
    return refused


@pytest.mark.usefixtures("at_once")
def test_a_gateway_that_asks_seldom_refuses_nothing_in_a_whole_rotation(
    folder: KeyFolder, rotation: Rotation, clock: Clock
) -> None:
    assert refused_in_a_rotation(folder, rotation, clock) == 0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("wait", ["publish", "retire"])
def test_without_its_waits_a_rotation_would_have_tokens_refused(
    folder: KeyFolder, rotation: Rotation, clock: Clock, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    """Else the test above would prove nothing."""
    if wait == "publish":
        monkeypatch.setattr(key_rotation, "PUBLISH_FOR", timedelta(seconds=30))
    else:
        rotation.retire_after = timedelta(seconds=30)
    assert refused_in_a_rotation(folder, rotation, clock) > 0


@pytest.mark.usefixtures("at_once")
def test_processes_believe_each_other_while_keys_change_under_way(
    folder: KeyFolder, rotation: Rotation, clock: Clock
) -> None:
    processes = [WatchedKeys(folder) for _ in range(3)]
    rounds, refused, stop = [0, 0, 0], [], threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            token = token_of(processes[number])
            refused.extend(kid_of(token) for keys in processes if not believes(keys, token))
            rounds[number] += 1

    def follows(keys: WatchedKeys) -> bool:
        """Asking waits for nobody, so one that is just being read again is still that of before."""
        return list(keys.ring().by_kid) == [key.kid for key in folder.read()]

    def patiently(done: Callable[[], bool]) -> None:
        while not done():
            assert not any(worker.done() for worker in workers)
            time.sleep(0.001)

    def all_have_followed() -> None:
        """And every token of before has been read, as it would have been in the waits of a rotation."""
        patiently(lambda: all(map(follows, processes)))
        before = list(rounds)
        patiently(lambda: all(now > then for now, then in zip(rounds, before, strict=True)))

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        try:
            for _ in range(4):
                for act in (Act.PUBLISH, Act.SWITCH, Act.RETIRE):
                    step = rotation.step(begin=True)
                    assert step is not None
                    assert step.act is act
                    clock.now += timedelta(days=1)
                    all_have_followed()
        finally:
            stop.set()
    assert refused == []


@pytest.fixture
def rotating(settings: Any, people: People, folder: KeyFolder) -> Iterator[KeyFolder]:
    """The service, with keys from a folder."""
    settings.JWT_KEYS_DIR = str(folder.path)
    wiring._service = None
    yield folder
    wiring._service = None


@pytest.mark.usefixtures("at_once")
def test_pyjwts_own_client_verifies_every_token_of_a_running_service(
    rotating: KeyFolder, rotation: Rotation, clock: Clock, people: People, anyone: Api
) -> None:
    class Client(jwt.PyJWKClient):
        def fetch_data(self) -> Any:
            data = anyone("GET", "/.well-known/jwks.json").json()
            assert self.jwk_set_cache is not None
            self.jwk_set_cache.put(data)
            return data

    ann, client = people.user("Ann"), Client("https://users.example/.well-known/jwks.json")
    old = people.log_in("Ann")
    seen = set()
    for _ in range(4):  # published, switched, retired, published again
        api = people.log_in("Ann")
        assert api.token is not None
        key = client.get_signing_key_from_jwt(api.token)
        claims = jwt.decode(api.token, key, [key.algorithm_name], audience="services", issuer="user-service")
        assert claims["sub"] == ann
        assert api("GET", "/users/me").status_code == 200
        seen.add(key.key_id)
        if State.RETIRING in states(rotating):
            assert old("GET", "/users/me").status_code == 200
        rotation.step(begin=True)
        clock.now += timedelta(days=1)
    assert len(seen) == 2
    assert old("GET", "/users/me").status_code == 401
