"""How times, bytes and memory grow: with data, images, index entries, disks, generations; and how reads go.

Every benchmark is a module with a function from a `Setting` to rows; `__main__` lists them and runs each in a process
of its own, so that memory is its own.
"""
