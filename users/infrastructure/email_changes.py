"""Proposals of new addresses, in PostgreSQL: one row a user, whose lock decides who comes first."""

from datetime import datetime

from users.application.ports import EmailProposal
from users.models import EmailChange


class DatabaseEmailProposals:
    def put(self, proposal: EmailProposal, now: datetime) -> None:
        row = EmailChange(
            user_id=proposal.user_id,
            email=proposal.email,
            fingerprint=proposal.fingerprint,
            created_at=now,
            expires_at=proposal.expires_at,
        )
        EmailChange.objects.bulk_create(
            [row],
            update_conflicts=True,
            unique_fields=["user_id"],
            update_fields=["email", "fingerprint", "created_at", "expires_at"],
        )

    def take(self, user_id: str) -> EmailProposal | None:
        # Locked before it is deleted: who waits here finds it gone once the first has committed.
        row = EmailChange.objects.select_for_update().filter(user_id=user_id).first()
        if row is None:
            return None
        taken = EmailProposal(
            user_id=str(row.user_id), email=row.email, fingerprint=row.fingerprint, expires_at=row.expires_at
        )
        row.delete()
        return taken


def forget_expired_proposals(now: datetime) -> int:
    """Deletes what nobody can confirm any more, and answers how many."""
    deleted, _ = EmailChange.objects.filter(expires_at__lte=now).delete()
    return deleted
