"""Golden images and a disk in three generations, made from Debian packages, for every benchmark to measure the same.

    python -m benchmarks.images [--small] [--folder .bench/images] [--json]

Building needs root (loop mounts, chroots); reading a built family does not:

    from benchmarks.images import load_family
    for image in load_family(Path(".bench/images")).raws: ...

How it goes: `recipe` says what is on each disk; `build` makes a file system of packages with mmdebstrap and
`mke2fs -d`; `change` mounts the instance disk and uses it for a while; `containers` writes the same disks as qcow2 and
VMDK; `family` keeps `manifest.json`; `maker` goes through all of it and skips what is finished.

What is bit-identical from run to run, and what is not:

- Goldens (raw): identical as long as the mirror has the same package versions and the tools are the same. Time stamps,
  UUIDs and the directory hash seed are fixed, files are laid out in sorted order, and what a machine must have for
  itself (host keys, certificates) is left out as a good template does. Checked on the small family; of the full family
  the goldens contain an initrd, which nobody has compared.
- Instances: not identical. Sizes, texts, file names, rows and the pages that are updated come from a seed, but time
  stamps, journals, keys, WAL and the allocator's choices are those of a real run. Compare results between machines
  by the hashes in the manifest, not by names.
- qcow2 of every kind: identical for the same raw image and qemu. VMDK is not: qemu puts a random id in its descriptor.
"""

from benchmarks.images.family import Family, Image, load_family

__all__ = ["Family", "Image", "load_family"]
