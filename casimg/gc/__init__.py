"""Garbage collection: plan, then execute."""
