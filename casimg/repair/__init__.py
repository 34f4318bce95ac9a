"""Repair: save what damaged packs still hold, find the rest elsewhere, say what is lost. Nothing is overwritten."""
