"""Measurements that anyone can repeat: `make bench`, and `bench-` peers, scale, server, parts.

Speed is judged here, never in a test."""
