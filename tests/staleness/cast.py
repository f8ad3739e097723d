"""Who takes part in a run: the service's address, the users, the token of one who may see and change them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.staleness.board import Board

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Cast:
    folder: Path
    port: int
    ids: list[str]
    staff: str

    @staticmethod
    def email(user: int) -> str:
        return f"user{user}@example.com"

    @property
    def board(self) -> Board:
        return Board(self.folder / "board", len(self.ids))

    def writes(self, writer: int) -> Path:
        """A line for each write that was answered."""
        return self.folder / f"writes{writer}"

    def suspects(self, reader: int) -> Path:
        """A line for each answer to be looked at."""
        return self.folder / f"suspects{reader}"

    @property
    def fast_reads(self) -> Path:
        """What the setting says in a process with the service's environment."""
        return self.folder / "fast_reads"

    def save(self) -> None:
        fields = asdict(self) | {"folder": str(self.folder)}
        (self.folder / "cast.json").write_text(json.dumps(fields))

    @classmethod
    def load(cls, folder: str) -> "Cast":
        fields = json.loads((Path(folder) / "cast.json").read_text())
        return cls(**fields | {"folder": Path(folder)})
