"""Frozen vectors."""
