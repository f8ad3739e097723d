"""Whether this system has the bcrypt that `blowfish` asks: found in another way than there, so that a fault
there fails its tests, and does not skip them."""

import ctypes
from ctypes.util import find_library

import pytest

NAME = "libcrypt.so.1"


def is_there() -> bool:
    return find_library("crypt") == NAME and hasattr(ctypes.CDLL(NAME), "crypt_rn")


needs_system_crypt = pytest.mark.skipif(not is_there(), reason=f"this system has no libxcrypt as {NAME}")
