/* MinCDC with a 4-byte hash: a chunk ends where the hash of the four bytes before the cut is smallest.
 *
 * Source: Orson Peters, "MinCDC"; definition in docs/format.md, "Cuts".
 *
 *     v(i) = (u32le(d[i-4 .. i-1]) * A + B) mod 2^32,  i in [size_min, n];  cut at the smallest i with minimal v(i)
 *
 * The caller passes n = min(size_max, bytes left in the run), so d[0..n) is all that is read. There is no table and
 * no chain from byte to byte, so a vector evaluates as many positions as it has lanes: four loads at +0 .. +3 give
 * the hashes of four times as many consecutive positions. Only a strict improvement replaces the best so far, which
 * keeps the smallest i among equals.
 */
#include "casimg_native.h"

#include <string.h>

#define MUL 0x9E3779B1u
#define ADD 0x7F4A7C15u

static inline uint32_t hash_at(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word * MUL + ADD;
}

/* The hardware prefetcher stops at each 4 KiB page; asking one page ahead took a run that is not in cache from 15 to
 * 24 GB/s. An address past the end is harmless: a prefetch never faults. */
#define PREFETCH_AHEAD 4096u
#define PREFETCH(at) __builtin_prefetch((const void *)((uintptr_t)(at) + PREFETCH_AHEAD))

/* Best of positions [from, count) of the windows that begin at p, against (best, at); returns the position. */
static inline size_t finish(const uint8_t *p, size_t from, size_t count, uint32_t best, size_t at)
{
    for (size_t j = from; j < count; j++) {
        uint32_t v = hash_at(p + j);
        if (v < best) {
            best = v;
            at = j;
        }
    }
    return at;
}

size_t casimg_mincdc_scalar(const uint8_t *d, size_t n, uint32_t size_min)
{
    if (n <= size_min)
        return n;
    const uint8_t *p = d + size_min - 4;
    return size_min + finish(p, 1, n - size_min + 1, hash_at(p), 0);
}

#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__)
/* Of the lanes' best values pick the smallest, and among equals the smallest position. Lane l of block b has seen the
 * positions b + 4 l + 0 .. 3; which of the four it was is found by looking again. */
static inline size_t pick(const uint8_t *p, const uint32_t *values, const uint32_t *blocks, size_t lanes, uint32_t *best)
{
    size_t at = SIZE_MAX;
    uint32_t low = UINT32_MAX;
    for (size_t l = 0; l < lanes; l++)
        if (values[l] < low)
            low = values[l];
    for (size_t l = 0; l < lanes; l++) {
        if (values[l] != low)
            continue;
        size_t j = (size_t)blocks[l] + 4 * l;
        while (hash_at(p + j) != low)
            j++;
        if (j < at)
            at = j;
    }
    *best = low;
    return at;
}
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

__attribute__((target("avx2"))) size_t casimg_mincdc_avx2(const uint8_t *d, size_t n, uint32_t size_min)
{
    if (n <= size_min)
        return n;
    const uint8_t *p = d + size_min - 4;
    size_t count = n - size_min + 1;
    if (count < 64)
        return casimg_mincdc_scalar(d, n, size_min);
    const __m256i mul = _mm256_set1_epi32((int)MUL), add = _mm256_set1_epi32((int)ADD);
    __m256i value_a = _mm256_set1_epi32(-1), block_a = _mm256_setzero_si256();
    __m256i value_b = _mm256_set1_epi32(-1), block_b = _mm256_setzero_si256();
    size_t j = 0;
#define HASH(o) _mm256_add_epi32(_mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *)(p + (o))), mul), add)
#define MIN4(o)                                                                                                        \
    _mm256_min_epu32(_mm256_min_epu32(HASH(o), HASH((o) + 1)), _mm256_min_epu32(HASH((o) + 2), HASH((o) + 3)))
    /* Two accumulators hide the latency of min -> compare -> blend. */
    for (; j + 64 <= count; j += 64) {
        PREFETCH(p + j);
        __m256i low_a = _mm256_min_epu32(value_a, MIN4(j));
        __m256i low_b = _mm256_min_epu32(value_b, MIN4(j + 32));
        __m256i same_a = _mm256_cmpeq_epi32(low_a, value_a), same_b = _mm256_cmpeq_epi32(low_b, value_b);
        block_a = _mm256_blendv_epi8(_mm256_set1_epi32((int)j), block_a, same_a);
        block_b = _mm256_blendv_epi8(_mm256_set1_epi32((int)(j + 32)), block_b, same_b);
        value_a = low_a;
        value_b = low_b;
    }
#undef MIN4
#undef HASH
    uint32_t values[8], blocks[8], best_a, best_b;
    _mm256_storeu_si256((__m256i *)values, value_a);
    _mm256_storeu_si256((__m256i *)blocks, block_a);
    size_t at_a = pick(p, values, blocks, 8, &best_a);
    _mm256_storeu_si256((__m256i *)values, value_b);
    _mm256_storeu_si256((__m256i *)blocks, block_b);
    size_t at_b = pick(p, values, blocks, 8, &best_b);
    if (best_b < best_a || (best_b == best_a && at_b < at_a)) {
        best_a = best_b;
        at_a = at_b;
    }
    return size_min + finish(p, j, count, best_a, at_a);
}

__attribute__((target("sse4.1"))) size_t casimg_mincdc_sse41(const uint8_t *d, size_t n, uint32_t size_min)
{
    if (n <= size_min)
        return n;
    const uint8_t *p = d + size_min - 4;
    size_t count = n - size_min + 1;
    if (count < 16)
        return casimg_mincdc_scalar(d, n, size_min);
    const __m128i mul = _mm_set1_epi32((int)MUL), add = _mm_set1_epi32((int)ADD);
    __m128i value = _mm_set1_epi32(-1), block = _mm_setzero_si128();
    size_t j = 0;
#define HASH(o) _mm_add_epi32(_mm_mullo_epi32(_mm_loadu_si128((const __m128i *)(p + (o))), mul), add)
    for (; j + 16 <= count; j += 16) {
        PREFETCH(p + j);
        __m128i four = _mm_min_epu32(_mm_min_epu32(HASH(j), HASH(j + 1)), _mm_min_epu32(HASH(j + 2), HASH(j + 3)));
        __m128i low = _mm_min_epu32(value, four);
        block = _mm_blendv_epi8(_mm_set1_epi32((int)j), block, _mm_cmpeq_epi32(low, value));
        value = low;
    }
#undef HASH
    uint32_t values[4], blocks[4], best;
    _mm_storeu_si128((__m128i *)values, value);
    _mm_storeu_si128((__m128i *)blocks, block);
    size_t at = pick(p, values, blocks, 4, &best);
    return size_min + finish(p, j, count, best, at);
}
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

size_t casimg_mincdc_neon(const uint8_t *d, size_t n, uint32_t size_min)
{
    if (n <= size_min)
        return n;
    const uint8_t *p = d + size_min - 4;
    size_t count = n - size_min + 1;
    if (count < 16)
        return casimg_mincdc_scalar(d, n, size_min);
    const uint32x4_t add = vdupq_n_u32(ADD);
    uint32x4_t value = vdupq_n_u32(UINT32_MAX), block = vdupq_n_u32(0);
    size_t j = 0;
#define HASH(o) vmlaq_n_u32(add, vreinterpretq_u32_u8(vld1q_u8(p + (o))), MUL)
    for (; j + 16 <= count; j += 16) {
        PREFETCH(p + j);
        uint32x4_t four = vminq_u32(vminq_u32(HASH(j), HASH(j + 1)), vminq_u32(HASH(j + 2), HASH(j + 3)));
        uint32x4_t better = vcltq_u32(four, value);
        block = vbslq_u32(better, vdupq_n_u32((uint32_t)j), block);
        value = vminq_u32(value, four);
    }
#undef HASH
    uint32_t values[4], blocks[4], best;
    vst1q_u32(values, value);
    vst1q_u32(blocks, block);
    size_t at = pick(p, values, blocks, 4, &best);
    return size_min + finish(p, j, count, best, at);
}
#endif
