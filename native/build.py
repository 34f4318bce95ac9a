"""cffi build of `casimg._native`: the C of the hot loops in API mode, so calls release the GIL."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent

ffibuilder = FFI()
ffibuilder.cdef(
    """
    int casimg_has(int impl);
    size_t casimg_zero_prefix(int impl, const uint8_t *d, size_t n);
    size_t casimg_next_cut(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                           uint32_t size_max);
    size_t casimg_cut_run(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                          uint32_t size_max);
    long casimg_cut_segment(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                            uint32_t size_max, uint32_t *entries, size_t capacity);
    int casimg_hash_entries(int impl, const uint8_t *d, const uint32_t *entries, size_t count, uint8_t *ids);
    long casimg_cut_and_hash(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                             uint32_t size_max, uint32_t *entries, size_t capacity, uint8_t *ids);
    size_t casimg_common_size(const uint8_t *a, const uint8_t *b, size_t n);
    int casimg_place_items(uint32_t pack_no, const uint32_t *frames, size_t frame_count, const uint32_t *sizes,
                           const uint8_t *ids, size_t count, uint8_t *items);
    void casimg_sort_items(uint8_t *items, size_t count);
    """
)
ffibuilder.set_source(
    "casimg._native",
    '#include "casimg_native.h"',
    sources=[f"native/{name}.c" for name in ("mincdc", "fastcdc", "zeros", "hash", "segment", "places")],
    include_dirs=["native"],
    depends=["native/casimg_native.h", "native/hash_lanes.h"],
    extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
