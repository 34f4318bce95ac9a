/* Hot loops of casimg: zero scan, chunkers, hashes of chunks, items of the index.
 *
 * Every routine is a pure function of its arguments; buffers that go in are only read. A SIMD routine gives exactly what its
 * scalar twin gives. The rules of cutting are part of the repository format: see docs/format.md, "Cuts".
 */
#ifndef CASIMG_NATIVE_H
#define CASIMG_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define CASIMG_BLOCK_SIZE 4096u
#define CASIMG_SEGMENT_SIZE (4u << 20)
#define CASIMG_HOLE_FLAG 0x80000000u
#define CASIMG_ITEM_SIZE 52u
#define CASIMG_FRAME_CHUNKS_MAX 65535u

enum { CASIMG_IMPL_SCALAR = 0, CASIMG_IMPL_SSE41 = 1, CASIMG_IMPL_AVX2 = 2, CASIMG_IMPL_NEON = 3, CASIMG_IMPL_AVX512 = 4 };
enum { CASIMG_MINCDC = 0, CASIMG_FASTCDC = 1, CASIMG_FIXED = 2 };

/* Nonzero when this machine runs the implementation. */
int casimg_has(int impl);

/* Leading zero bytes of d[0..n). */
size_t casimg_zero_prefix(int impl, const uint8_t *d, size_t n);

/* Size of the first chunk of a data run of which d holds the first n = min(size_max, run size) bytes; n >= 1. */
size_t casimg_next_cut(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                       uint32_t size_max);

/* Cut a whole run of data and return the sum of the sizes; sizes are not kept. For measurements. */
size_t casimg_cut_run(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                      uint32_t size_max);

/* Entries of one segment, holes flagged. Returns how many, or -1 when `capacity` is too small or n too large. */
long casimg_cut_segment(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                        uint32_t size_max, uint32_t *entries, size_t capacity);

/* BLAKE3-256 of every entry that is not a hole; the entries lie one after another in d. `ids` takes 32 bytes for each.
 * Returns 0, or -1 when there is no memory. */
int casimg_hash_entries(int impl, const uint8_t *d, const uint32_t *entries, size_t count, uint8_t *ids);

/* casimg_cut_segment, then casimg_hash_entries; `ids` takes 32 * capacity bytes. Returns as casimg_cut_segment, or -2
 * when there is no memory. */
long casimg_cut_and_hash(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                         uint32_t size_max, uint32_t *entries, size_t capacity, uint8_t *ids);

/* Leading bytes of a[0..n) and b[0..n) that are the same. */
size_t casimg_common_size(const uint8_t *a, const uint8_t *b, size_t n);

/* Index items of a pack's entries, CASIMG_ITEM_SIZE bytes each, in the order of the entries. `frames` has offset, size
 * and chunk count of each frame. Returns 0, or -1 when the frames do not have `count` chunks, or one has too many. */
int casimg_place_items(uint32_t pack_no, const uint32_t *frames, size_t frame_count, const uint32_t *sizes,
                       const uint8_t *ids, size_t count, uint8_t *items);

/* Sort index items in place by their bytes. */
void casimg_sort_items(uint8_t *items, size_t count);

/* Routines behind the dispatch. */
size_t casimg_mincdc_scalar(const uint8_t *d, size_t n, uint32_t size_min);
size_t casimg_mincdc_sse41(const uint8_t *d, size_t n, uint32_t size_min);
size_t casimg_mincdc_avx2(const uint8_t *d, size_t n, uint32_t size_min);
size_t casimg_mincdc_neon(const uint8_t *d, size_t n, uint32_t size_min);
size_t casimg_fastcdc_scalar(const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg);
size_t casimg_zero_prefix_scalar(const uint8_t *d, size_t n);
size_t casimg_zero_prefix_sse41(const uint8_t *d, size_t n);
size_t casimg_zero_prefix_avx2(const uint8_t *d, size_t n);
size_t casimg_zero_prefix_neon(const uint8_t *d, size_t n);

#endif
