"""Measurements that anyone can repeat; `make bench` runs them all. Speed is judged here, never in a test."""
