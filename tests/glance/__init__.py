"""casimg as a Glance: a real Keystone, tempest's tests of the Image API, and real clients.

    python -m tests.glance

The parts: `install` (programs), `identity` (Keystone), `service` (casimg), `tempest` (the suite), `outcomes` (what it
said), `report` (what is kept of a run), `test_*.py` (clients, run by pytest of the programs' venv).
"""
