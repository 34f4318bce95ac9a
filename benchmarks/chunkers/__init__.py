"""Which chunker, and which chunk size: what each makes of the same images."""
