"""The set of breached passwords: how it is built, what it answers, and which files are refused."""

import gzip
import hashlib
import random
import struct
from datetime import UTC, datetime

import pytest

from users.infrastructure.passwords import breach_building
from users.infrastructure.passwords.breach_building import UnreadableList, build
from users.infrastructure.passwords.breaches import HEADER, START, BreachSet, NotABreachSet

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
KNOWN = [f"password {number}" for number in range(2000)]
OTHERS = [f"another {number}" for number in range(2000)]


def sha1(word):
    return hashlib.sha1(word.encode()).hexdigest().upper()


def lines(*words, count=3):
    return "".join(f"{sha1(word)}:{count}\n" for word in words)


@pytest.fixture
def built(tmp_path):
    """Builds a set of what a list says, and opens it."""
    opened = []

    def built(text, **options):
        source = tmp_path / "list"
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        build(source, tmp_path / "set", now=NOW, **options)
        opened.append(BreachSet(tmp_path / "set"))
        return opened[-1]

    yield built
    for each in opened:
        each.close()


def test_it_holds_every_password_of_the_list_and_no_other(built):
    breached = built(lines(*KNOWN))

    assert all(word in breached for word in KNOWN)
    assert not any(word in breached for word in OTHERS)
    assert breached.about.count == len(KNOWN)


def test_it_is_asked_for_text_alone(built):
    assert None not in built(lines("x"))


@pytest.mark.parametrize("prefix", ["0000", "FFFF", "0001", "FFFE"])
def test_hashes_at_both_ends_are_found_and_their_neighbours_not(built, prefix):
    rest = ["00" * 18, "80" * 18, "FF" * 18]
    breached = built("".join(f"{prefix}{each}\n" for each in rest))

    assert [breached.has(bytes.fromhex(prefix + each)) for each in rest] == [True] * 3
    for stranger in ("01" * 18, "7F" * 18, "FE" * 18):
        assert not breached.has(bytes.fromhex(prefix + stranger))
    for elsewhere in {"0000", "0001", "FFFE", "FFFF"} - {prefix}:
        assert not breached.has(bytes.fromhex(elsewhere + rest[0]))


def test_the_order_of_the_list_does_not_matter_nor_do_repetitions(built, tmp_path, monkeypatch):
    monkeypatch.setattr(breach_building, "_BLOCK", 4096)
    shuffled = KNOWN + KNOWN[:100]
    random.Random(7).shuffle(shuffled)
    sorted_list = "".join(sorted(lines(*KNOWN).splitlines(keepends=True)))
    built(sorted_list)
    expected = (tmp_path / "set").read_bytes()

    for text in (lines(*KNOWN), lines(*shuffled), lines(*shuffled).lower()):
        built(text, run_size=64)
        assert (tmp_path / "set").read_bytes() == expected


def test_a_sorted_list_is_never_sorted_again(built, monkeypatch):
    monkeypatch.setattr(breach_building, "MOST_RUNS", 1)
    monkeypatch.setattr(breach_building, "_BLOCK", 4096)
    in_order = "".join(sorted(lines(*KNOWN).splitlines(keepends=True)))

    assert built(in_order, run_size=64).about.count == len(KNOWN)
    with pytest.raises(UnreadableList, match="sort it first"):
        built(lines(*KNOWN), run_size=64)


@pytest.mark.parametrize(
    "text",
    [
        lines("one", "two").encode(),
        lines("one", "two").rstrip("\n").encode(),
        lines("one", "two").replace("\n", "\r\n").encode(),
        f"\n{sha1('one')}  \n\n{sha1('two').lower()}\n".encode(),
        b"\xef\xbb\xbf" + lines("one", "two").encode(),
        gzip.compress(lines("one", "two").encode()),
    ],
    ids=["plain", "no last line feed", "windows", "no counts", "byte order mark", "gzip"],
)
def test_lists_come_in_several_forms(built, text):
    breached = built(text)

    assert ("one" in breached, "two" in breached, breached.about.count) == (True, True, 2)


def test_lines_that_lie_across_two_blocks_are_read_whole(built, monkeypatch):
    monkeypatch.setattr(breach_building, "_BLOCK", 97)
    assert built(lines(*KNOWN[:300])).about.count == 300


def test_what_was_seen_less_often_than_asked_for_is_left_out(built):
    breached = built(lines("rare", count=9) + lines("frequent", count=10), min_count=10)

    assert ("rare" in breached, "frequent" in breached) == (False, True)
    assert (breached.about.count, breached.about.min_count) == (1, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lines("one") + "my secret password\n", "line 2 "),
        (lines("one") + "\n\n" + sha1("two")[:-1] + "\n", "line 4 "),
        (sha1("one") + "0\n", "line 1 "),
        (sha1("one") + ":many\n", "line 1 "),
        (sha1("one")[:32] + ":5\n", "NTLM"),
        ("", "no hash"),
        ("\n\n", "no hash"),
        (b"\x1f\x8b broken", "damaged"),
        (gzip.compress(lines(*KNOWN).encode())[:-9], "damaged"),
        (b"x" * 300, "no lines"),
    ],
)
def test_a_list_that_is_none_is_refused_without_being_quoted(built, tmp_path, monkeypatch, text, said):
    monkeypatch.setattr(breach_building, "_BLOCK", 50)
    with pytest.raises(UnreadableList) as refusal:
        built(text)

    assert said in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


def test_counts_are_needed_to_choose_by_them(built):
    with pytest.raises(UnreadableList, match="min-count"):
        built(f"{sha1('one')}\n", min_count=2)
    with pytest.raises(UnreadableList, match="no hash"):
        built(lines("one"), min_count=4)


def test_the_old_file_stays_until_the_new_one_is_whole(built, tmp_path, monkeypatch):
    before = built(lines("old"))
    with pytest.raises(UnreadableList):
        built(lines("new") + "nonsense\n")
    assert "old" in BreachSet(tmp_path / "set")

    monkeypatch.setattr(breach_building.os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        built(lines("new"))
    assert "old" in BreachSet(tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"list", "set"}

    monkeypatch.undo()
    assert ("old" in built(lines("new")), "old" in before) == (False, True)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_progress_is_told_in_bytes_of_the_file_and_in_hashes(built, tmp_path, monkeypatch, pack):
    monkeypatch.setattr(breach_building, "_BLOCK", 4096)
    read, written, totals = [], [], []
    built(
        pack(lines(*KNOWN).encode()),
        reading=read.append,
        writing=lambda total: totals.append(total) or written.append,
    )

    assert (sum(read), totals, sum(written)) == ((tmp_path / "list").stat().st_size, [2000], 2000)


def test_a_password_takes_five_bytes_and_chance_is_told(built, tmp_path):
    about = built(lines(*KNOWN)).about

    assert (tmp_path / "set").stat().st_size == START + 5 * len(KNOWN)
    assert about.false_positives == pytest.approx(2000 / 2**56)
    assert about.built_at == NOW


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[: HEADER.size - 1],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: b"BREECHES" + whole[8:],
        lambda whole: whole[:8] + struct.pack(">I", 2) + whole[12:],
    ],
    ids=["empty", "short", "cut off", "too long", "another magic", "another version"],
)
def test_a_file_that_is_none_or_not_whole_is_refused(built, tmp_path, spoil):
    built(lines("one"))
    path = tmp_path / "set"
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(NotABreachSet):
        BreachSet(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(OSError):
            BreachSet(path)
