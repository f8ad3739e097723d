"""A secret that several processes want at once is one secret."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from users.infrastructure.made_once import made_once


def test_the_first_content_stays_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "secret"

    assert made_once(path, lambda: b"first") == made_once(path, lambda: b"second") == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_all_who_come_at_once_read_the_same_whole_content(tmp_path: Path) -> None:
    number = count()

    def slowly() -> bytes:
        time.sleep(0.02)
        return b"%d" % next(number) * 10_000

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: made_once(tmp_path / "secret", slowly), range(8)))

    (content,) = found
    assert len(content) == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise OSError

    with pytest.raises(OSError):
        made_once(tmp_path / "secret", fail)
    assert list(tmp_path.iterdir()) == []
