"""What the table says, what was acknowledged, and what was seen on a stream: held against each other."""

import json
from collections import defaultdict
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import psycopg

Seen = tuple[int | None, str, str, int]
"""Sequence, event id, user id, user version."""


@dataclass(frozen=True)
class Truth:
    """`events` by event id; `versions` of the users' rows; `acknowledged`: changes that were answered."""

    events: dict[str, Seen]
    versions: dict[str, int]
    acknowledged: set[tuple[str, int]]

    def tells(self, sequence: int | None, event_id: str, user_id: str, version: int) -> bool:
        """Whether this was committed; a naive relay's reader knows no sequence."""
        committed = self.events.get(event_id)
        return committed is not None and committed == (sequence or committed[0], event_id, user_id, version)

    def faults(self) -> list[str]:
        """Where the table contradicts itself or what was answered."""
        of_user = defaultdict(list)
        for _, _, user_id, version in self.events.values():
            of_user[user_id].append(version)
        faults = [
            f"user {user_id} has version {version} and events {sorted(of_user[user_id])}"
            for user_id, version in self.versions.items()
            if sorted(of_user[user_id]) != list(range(1, version + 1))
        ]
        faults += [f"events of nobody: {user_id}" for user_id in of_user if user_id not in self.versions]
        faults += [
            f"answered and not there: {user_id} at {version}"
            for user_id, version in self.acknowledged
            if self.versions.get(user_id, 0) < version
        ]
        sequences = sorted(sequence or 0 for sequence, *_ in self.events.values())
        if sequences != list(range(1, len(sequences) + 1)):
            faults.append("the sequences of the table are not contiguous")
        return faults


@dataclass(frozen=True)
class Verdict:
    """Counts over what one reader saw. `lost`: committed and never seen. `ghosts`: seen and not committed, or
    as something else. `repeats`: the same sequence and id again, which is allowed; `doubles`: one event under
    two sequences, or two under one. `disorders`: an event seen for the first time after a later one of the
    same user. `gaps`: holes between the sequences in the stream when all is calm; None without sequences."""

    lost: int
    ghosts: int
    repeats: int
    doubles: int
    disorders: int
    gaps: int | None

    def row(self, name: str) -> str:
        counts = (getattr(self, field.name) for field in fields(self))
        return f"| {name} | " + " | ".join("-" if count is None else f"{count:,}" for count in counts) + " |"

    @staticmethod
    def head() -> str:
        names = [field.name for field in fields(Verdict)]
        return f"| | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}"


def judge(truth: Truth, seen: list[Seen], left: list[int] | None) -> Verdict:
    """`seen` in the order in which it was seen; `left`: the sequences that the stream holds in the end, None
    where it has none."""
    first: dict[str, int | None] = {}
    by_sequence: dict[int, str] = {}
    newest: dict[str, int] = defaultdict(int)
    ghosts = repeats = doubles = disorders = 0
    for sequence, event_id, user_id, version in seen:
        ghosts += not truth.tells(sequence, event_id, user_id, version)
        if event_id in first:
            repeats += sequence == first[event_id]
            doubles += sequence != first[event_id]
            continue
        first[event_id] = sequence
        doubles += sequence is not None and by_sequence.setdefault(sequence, event_id) != event_id
        disorders += version < newest[user_id]
        newest[user_id] = max(newest[user_id], version)
    return Verdict(
        lost=len(truth.events.keys() - first.keys()),
        ghosts=ghosts,
        repeats=repeats,
        doubles=doubles,
        disorders=disorders,
        gaps=None if left is None else sum(later != earlier + 1 for earlier, later in pairwise(left)),
    )


def read_truth(database_url: str, acknowledged: list[Path]) -> Truth:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT sequence, event_id, user_id, user_version FROM outbox").fetchall()
        users = connection.execute("SELECT id, version FROM users").fetchall()
    answered = set()
    for path in acknowledged:
        for line in path.read_text().splitlines():
            user_id, _, version = line.partition(" ")
            if version:
                answered.add((user_id, int(version)))
    return Truth(
        {str(row[1]): (row[0], str(row[1]), str(row[2]), row[3]) for row in rows},
        {str(user_id): version for user_id, version in users},
        answered,
    )


def read_seen(path: Path) -> list[Seen]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]
