"""The inner loops of the library beside the limits of the machine."""
