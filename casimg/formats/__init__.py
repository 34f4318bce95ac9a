"""Bytes on disk and what they mean. Pure: no I/O. Every byte is described in docs/format.md."""
