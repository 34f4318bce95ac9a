"""Packs: one immutable object of many frames; its keys, its writer and its reader."""
