"""casimg beside its peers: the same images, the same machine, the same run.

    python -m benchmarks.peers --images FOLDER [--small] [--only NAME...]

One file per peer says how it stores and restores a file (`contract` is what they have in common), `install` puts
their programs below the work folder, `stages` runs and measures, `rows` makes sums and the printed table.
"""
