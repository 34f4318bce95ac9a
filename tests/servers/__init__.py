"""Real servers for tests: each started on loopback and a free port, in a folder of its own, and stopped at the end."""
