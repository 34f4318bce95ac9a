"""Snapshots of disks by a map of what changed."""
