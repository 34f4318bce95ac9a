"""Attacks on real repositories in real processes; `make torture` runs them all. See docs/torture.md."""
