"""Places for objects: one contract (`base`), one module per place, wrappers for powers."""
