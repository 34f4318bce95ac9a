/* One segment in one call: holes out, runs of data cut. And the choice of implementation. */
#include "casimg_native.h"

#include <string.h>

int casimg_has(int impl)
{
    switch (impl) {
    case CASIMG_IMPL_SCALAR:
        return 1;
#if defined(__x86_64__) || defined(__i386__)
    case CASIMG_IMPL_SSE41:
        return __builtin_cpu_supports("sse4.1") != 0;
    case CASIMG_IMPL_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
#endif
#if defined(__x86_64__)
    case CASIMG_IMPL_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2");
#endif
#if defined(__aarch64__)
    case CASIMG_IMPL_NEON:
        return 1;
#endif
    default:
        return 0;
    }
}

size_t casimg_zero_prefix(int impl, const uint8_t *d, size_t n)
{
    switch (impl) {
#if defined(__x86_64__) || defined(__i386__)
    case CASIMG_IMPL_SSE41:
        return casimg_zero_prefix_sse41(d, n);
    case CASIMG_IMPL_AVX512: /* memory is the limit already */
    case CASIMG_IMPL_AVX2:
        return casimg_zero_prefix_avx2(d, n);
#endif
#if defined(__aarch64__)
    case CASIMG_IMPL_NEON:
        return casimg_zero_prefix_neon(d, n);
#endif
    default:
        return casimg_zero_prefix_scalar(d, n);
    }
}

size_t casimg_next_cut(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                       uint32_t size_max)
{
    if (n > size_max)
        n = size_max;
    if (kind == CASIMG_FIXED)
        return n < size_avg ? n : size_avg;
    if (kind == CASIMG_FASTCDC)
        return casimg_fastcdc_scalar(d, n, size_min, size_avg);
    switch (impl) {
#if defined(__x86_64__) || defined(__i386__)
    case CASIMG_IMPL_SSE41:
        return casimg_mincdc_sse41(d, n, size_min);
    case CASIMG_IMPL_AVX512:
    case CASIMG_IMPL_AVX2:
        return casimg_mincdc_avx2(d, n, size_min);
#endif
#if defined(__aarch64__)
    case CASIMG_IMPL_NEON:
        return casimg_mincdc_neon(d, n, size_min);
#endif
    default:
        return casimg_mincdc_scalar(d, n, size_min);
    }
}

size_t casimg_cut_run(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                      uint32_t size_max)
{
    size_t at = 0;
    while (at < n)
        at += casimg_next_cut(impl, kind, d + at, n - at, size_min, size_avg, size_max);
    return at;
}

/* Is the block at `at` all zeros? The last block may be short. */
static int is_hole(int impl, const uint8_t *d, size_t n, size_t at)
{
    size_t size = n - at < CASIMG_BLOCK_SIZE ? n - at : CASIMG_BLOCK_SIZE;
    return casimg_zero_prefix(impl, d + at, size) == size;
}

long casimg_cut_segment(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                        uint32_t size_max, uint32_t *entries, size_t capacity)
{
    if (n > CASIMG_SEGMENT_SIZE)
        return -1;
    size_t count = 0, at = 0;
    while (at < n) {
        size_t end = at;
        if (is_hole(impl, d, n, at)) {
            /* The whole rest at once: a hole runs at memory speed, then back to the last whole block. */
            size_t zeros = casimg_zero_prefix(impl, d + at, n - at);
            end = zeros == n - at ? n : at + zeros / CASIMG_BLOCK_SIZE * CASIMG_BLOCK_SIZE;
            if (count == capacity)
                return -1;
            entries[count++] = (uint32_t)(end - at) | CASIMG_HOLE_FLAG;
            at = end;
            continue;
        }
        while (end < n && !is_hole(impl, d, n, end))
            end = n - end < CASIMG_BLOCK_SIZE ? n : end + CASIMG_BLOCK_SIZE;
        while (at < end) {
            size_t size = casimg_next_cut(impl, kind, d + at, end - at, size_min, size_avg, size_max);
            if (count == capacity)
                return -1;
            entries[count++] = (uint32_t)size;
            at += size;
        }
    }
    return (long)count;
}

long casimg_cut_and_hash(int impl, int kind, const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg,
                         uint32_t size_max, uint32_t *entries, size_t capacity, uint8_t *ids)
{
    long count = casimg_cut_segment(impl, kind, d, n, size_min, size_avg, size_max, entries, capacity);
    if (count > 0 && casimg_hash_entries(impl, d, entries, (size_t)count, ids))
        return -2;
    return count;
}

size_t casimg_common_size(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t at = 0;
    while (n - at >= 32 && !memcmp(a + at, b + at, 32))
        at += 32;
    while (at < n && a[at] == b[at])
        at++;
    return at;
}
