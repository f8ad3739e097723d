"""What people recognise their devices by."""

from ua_parser import parse


def device_of(user_agent: str) -> str | None:
    """`Firefox on Linux`, from what a browser says of itself; as it stands where that is not known; None for
    nothing."""
    known = parse(user_agent)
    names = [part.family for part in (known.user_agent, known.os) if part]
    return " on ".join(names) or user_agent or None
