"""WSGI servers under the service: which one streams both ways, stays small, stops gracefully, and how fast.

    python -m benchmarks.servers [--small] [--only NAME ...] [--rounds 3] [--results FOLDER] [--folder .bench]

Every candidate serves the same application. A candidate that is not installed is left out and said to be. Client and
server share the cores of this machine, so speeds are lower bounds; rounds are interleaved and medians kept.
"""
