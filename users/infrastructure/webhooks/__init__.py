"""Webhooks, the parts that touch the world: tables, leases, signatures, addresses, HTTP."""
