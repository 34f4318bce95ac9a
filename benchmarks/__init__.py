"""Named workloads and the demo; run from the checkout with `make`."""
