"""schemathesis against a running service: every operation of its description, with all that may be sent."""
