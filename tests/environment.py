"""Imported before Django's settings are read: the environment that all tests run in."""

import logging
import os
from pathlib import Path

import django

from tests.servers import TEST_DIR

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.patient_settings"
os.environ["LOCAL_DIR"] = str(TEST_DIR)
os.environ["DJANGO_ENV"] = "development"
os.environ["BCRYPT_COST"] = "4"
os.environ["RATE_LIMITS"] = "off"
os.environ["REFRESH_GRACE_SECONDS"] = "60"  # longer than a busy machine may keep us waiting
os.environ["WEB_THREADS"] = "128"  # so many may ask for a hash here, as threads of the test
os.environ["STATIC_ROOT"] = str(TEST_DIR / "static")
Path(os.environ["STATIC_ROOT"]).mkdir(parents=True, exist_ok=True)
for variable in ("PROMETHEUS_MULTIPROC_DIR", "DRAIN_FILE"):
    os.environ.pop(variable, None)

# A background thread may log when pytest has closed the stream that it captured.
logging.raiseExceptions = False

django.setup()

from tests import leaks  # noqa: E402

leaks.watch_formatters()

from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

from users.infrastructure import cache  # noqa: E402
from users.infrastructure.keyring import pem_of  # noqa: E402
from users.infrastructure.made_once import made_once  # noqa: E402

# Where the service would make an RSA key, which takes 30 ms to load, in every test anew; P-256 takes 1 ms.
made_once(TEST_DIR / "signing_key.pem", lambda: pem_of(ec.generate_private_key(ec.SECP256R1())))

LEASE_IN_LIFE = cache.LEASE_MILLISECONDS
cache.LEASE_MILLISECONDS = 60_000  # so that on a slow machine too whoever has read can fill
