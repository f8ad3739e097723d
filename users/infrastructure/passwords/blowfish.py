"""bcrypt, by the system's libcrypt where that is sound: the same hashes as the library's, a seventh sooner.

Whoever guesses stolen hashes has the faster code anyway. Hashes are most of what logging in costs."""

import ctypes
import re
from collections.abc import Callable

import bcrypt

gensalt = bcrypt.gensalt

Hash = Callable[[bytes, bytes], bytes]

LIBRARY = "libcrypt.so.1"
"""libxcrypt, which Debian and others have at their base. Where there is none, the library does it all."""
DATA_BYTES = 32_768
"""What the C function works in, for each call its own: several run at once, without Python's lock."""
SALT = re.compile(rb"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{21}[.Oeu](?:[./A-Za-z0-9]{31})?")
"""Also with its hash. Of the last character only two bits count: others the library refuses."""
KNOWN = (b"correct horse battery", b"$2b$04$abcdefghijklmnopqrstuuqREtd3VJD2QVZbuFskFSLk6eRIrQoOS")


def hashpw(password: bytes, salt: bytes) -> bytes:
    """As bcrypt.hashpw, with its errors."""
    if _system and SALT.fullmatch(salt) and len(password) <= 72 and b"\0" not in password:
        return _of_any_name(_system, password, salt) or bcrypt.hashpw(password, salt)
    return bcrypt.hashpw(password, salt)


def _of_any_name(system: Hash, password: bytes, salt: bytes) -> bytes:
    """To the library 2a, 2b and 2y are one; to libxcrypt 2a is a little else. Each takes the faster way, or
    the time would tell accounts from elsewhere."""
    name, rest = salt[:4], salt[4:]
    computed = system(password, b"$2b$" + rest)
    return computed and name + computed[4:]


def system_hash(library: str = LIBRARY) -> Hash | None:
    """Empty for what it refuses. None where there is no such function, or where it says something else."""
    try:
        function = ctypes.CDLL(library).crypt_rn
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_char_p
    function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)

    def compute(password: bytes, salt: bytes) -> bytes:
        data = ctypes.create_string_buffer(DATA_BYTES)
        return function(password, salt, data, DATA_BYTES) or b""

    password, known = KNOWN
    return compute if compute(password, known) == known else None


_system = system_hash()
