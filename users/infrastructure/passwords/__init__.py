"""Passwords: hashes, ours and from elsewhere, the bulkhead before them, the rules for a new password, and the
set of breached ones."""
