"""Readers, writers and faults around the service as processes, and the verdict on every answer that was older
than what somebody had been answered before."""
