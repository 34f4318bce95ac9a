/* BLAKE3 of many pieces at once: the chunks of a segment, or of a frame.
 *
 * Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere" (2020), section 2.
 *
 * A hash of one piece of 8 to 24 KiB leaves lanes of a vector idle: its 1 KiB leaves are no multiple of the lanes, its
 * last leaf is short, its parents are few. Here the leaves of all pieces share the lanes, then their parents, level by
 * level, so that pieces cost what one long input costs (4.6 instead of 2.5 GB/s on a Zen 4 core with AVX2).
 *
 * The left subtree of a BLAKE3 tree holds the largest power of two of leaves that leaves something for the right one:
 * that is what pairing neighbours level by level gives, an odd one out going up unchanged.
 */
#include "casimg_native.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 64u
#define LEAF 1024u
#define OUT 32u
#define LANES_MAX 16

enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

static const uint32_t IV[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

/* What one lane hashes: a leaf of up to 16 blocks, or a parent of one; size >= 1. */
struct job {
    const uint8_t *data;
    uint8_t *out;
    uint32_t size, counter;
    uint32_t flags, first, last; /* of every block, the first, the last */
};

static inline uint32_t get_word(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void put_word(uint8_t *p, uint32_t word)
{
    p[0] = (uint8_t)word;
    p[1] = (uint8_t)(word >> 8);
    p[2] = (uint8_t)(word >> 16);
    p[3] = (uint8_t)(word >> 24);
}

/* One lane: plain C. */
#define NAME(x) x##_scalar
#define LANES 1
#define TARGET
#define VEC uint32_t
#define ADD(a, b) ((a) + (b))
#define XOR(a, b) ((a) ^ (b))
#define SET1(x) (x)
#define LOAD(p) (*(p))
#define STORE(p, x) (*(p) = (x))
#define ROT(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define ROT16(x) ROT(x, 16)
#define ROT12(x) ROT(x, 12)
#define ROT8(x) ROT(x, 8)
#define ROT7(x) ROT(x, 7)
#define SELECT(mask, a, b) (((a) & (mask)) | ((b) & ~(mask)))
static inline void words_scalar(const uint8_t *const blocks[1], uint32_t m[16])
{
    for (int i = 0; i < 16; i++)
        m[i] = get_word(blocks[0] + 4 * i);
}
#include "hash_lanes.h"
#undef ROT

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

#define NAME(x) x##_avx2
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#define VEC __m256i
#define ADD(a, b) _mm256_add_epi32(a, b)
#define XOR(a, b) _mm256_xor_si256(a, b)
#define SET1(x) _mm256_set1_epi32((int)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define BYTES(x, ...) _mm256_shuffle_epi8(x, _mm256_set_epi8(__VA_ARGS__, __VA_ARGS__))
#define ROT16(x) BYTES(x, 13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2)
#define ROT8(x) BYTES(x, 12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1)
#define ROT(x, n) _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define ROT12(x) ROT(x, 12)
#define ROT7(x) ROT(x, 7)
#define SELECT(mask, a, b) _mm256_blendv_epi8(b, a, mask)
TARGET static inline void words_avx2(const uint8_t *const blocks[8], __m256i m[16])
{
    for (int half = 0; half < 2; half++) {
        __m256i r[8], s[8];
        for (int l = 0; l < 8; l++)
            r[l] = LOAD(blocks[l] + 32 * half);
        /* Transpose 8 x 8: pairs of words, pairs of pairs, halves. */
        for (int l = 0; l < 8; l += 2) {
            s[l] = _mm256_unpacklo_epi32(r[l], r[l + 1]);
            s[l + 1] = _mm256_unpackhi_epi32(r[l], r[l + 1]);
        }
        for (int l = 0; l < 8; l += 4) {
            r[l] = _mm256_unpacklo_epi64(s[l], s[l + 2]);
            r[l + 1] = _mm256_unpackhi_epi64(s[l], s[l + 2]);
            r[l + 2] = _mm256_unpacklo_epi64(s[l + 1], s[l + 3]);
            r[l + 3] = _mm256_unpackhi_epi64(s[l + 1], s[l + 3]);
        }
        for (int l = 0; l < 4; l++) {
            m[8 * half + l] = _mm256_permute2x128_si256(r[l], r[l + 4], 0x20);
            m[8 * half + l + 4] = _mm256_permute2x128_si256(r[l], r[l + 4], 0x31);
        }
    }
}
#include "hash_lanes.h"
#undef BYTES
#undef ROT

#if defined(__x86_64__)
#define NAME(x) x##_avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define VEC __m512i
#define ADD(a, b) _mm512_add_epi32(a, b)
#define XOR(a, b) _mm512_xor_si512(a, b)
#define SET1(x) _mm512_set1_epi32((int)(x))
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, x) _mm512_storeu_si512(p, x)
#define ROT16(x) _mm512_ror_epi32(x, 16)
#define ROT12(x) _mm512_ror_epi32(x, 12)
#define ROT8(x) _mm512_ror_epi32(x, 8)
#define ROT7(x) _mm512_ror_epi32(x, 7)
#define SELECT(mask, a, b) _mm512_mask_blend_epi32(_mm512_test_epi32_mask(mask, mask), b, a)
TARGET static inline void words_avx512(const uint8_t *const blocks[16], __m512i m[16])
{
    __m512i r[16], s[16];
    for (int l = 0; l < 16; l++)
        r[l] = LOAD(blocks[l]);
    /* Transpose 16 x 16: pairs of words, pairs of pairs, then quarters of the vectors twice. */
    for (int l = 0; l < 16; l += 2) {
        s[l] = _mm512_unpacklo_epi32(r[l], r[l + 1]);
        s[l + 1] = _mm512_unpackhi_epi32(r[l], r[l + 1]);
    }
    for (int l = 0; l < 16; l += 4) {
        r[l] = _mm512_unpacklo_epi64(s[l], s[l + 2]);
        r[l + 1] = _mm512_unpackhi_epi64(s[l], s[l + 2]);
        r[l + 2] = _mm512_unpacklo_epi64(s[l + 1], s[l + 3]);
        r[l + 3] = _mm512_unpackhi_epi64(s[l + 1], s[l + 3]);
    }
    for (int l = 0; l < 4; l++) {
        __m512i a = _mm512_shuffle_i32x4(r[l], r[l + 4], 0x88), b = _mm512_shuffle_i32x4(r[l], r[l + 4], 0xDD);
        __m512i c = _mm512_shuffle_i32x4(r[l + 8], r[l + 12], 0x88), d = _mm512_shuffle_i32x4(r[l + 8], r[l + 12], 0xDD);
        m[l] = _mm512_shuffle_i32x4(a, c, 0x88);
        m[l + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
        m[l + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        m[l + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
}
#include "hash_lanes.h"
#endif

#define NAME(x) x##_sse41
#define LANES 4
#define TARGET __attribute__((target("sse4.1")))
#define VEC __m128i
#define ADD(a, b) _mm_add_epi32(a, b)
#define XOR(a, b) _mm_xor_si128(a, b)
#define SET1(x) _mm_set1_epi32((int)(x))
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define STORE(p, x) _mm_storeu_si128((__m128i *)(p), x)
#define ROT16(x) _mm_shuffle_epi8(x, _mm_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2))
#define ROT8(x) _mm_shuffle_epi8(x, _mm_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1))
#define ROT(x, n) _mm_or_si128(_mm_srli_epi32(x, n), _mm_slli_epi32(x, 32 - (n)))
#define ROT12(x) ROT(x, 12)
#define ROT7(x) ROT(x, 7)
#define SELECT(mask, a, b) _mm_blendv_epi8(b, a, mask)
TARGET static inline void words_sse41(const uint8_t *const blocks[4], __m128i m[16])
{
    for (int part = 0; part < 4; part++) {
        __m128i a = LOAD(blocks[0] + 16 * part), b = LOAD(blocks[1] + 16 * part);
        __m128i c = LOAD(blocks[2] + 16 * part), d = LOAD(blocks[3] + 16 * part);
        __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
        __m128i ab2 = _mm_unpackhi_epi32(a, b), cd2 = _mm_unpackhi_epi32(c, d);
        m[4 * part] = _mm_unpacklo_epi64(ab, cd);
        m[4 * part + 1] = _mm_unpackhi_epi64(ab, cd);
        m[4 * part + 2] = _mm_unpacklo_epi64(ab2, cd2);
        m[4 * part + 3] = _mm_unpackhi_epi64(ab2, cd2);
    }
}
#include "hash_lanes.h"
#undef ROT
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

#define NAME(x) x##_neon
#define LANES 4
#define TARGET
#define VEC uint32x4_t
#define ADD(a, b) vaddq_u32(a, b)
#define XOR(a, b) veorq_u32(a, b)
#define SET1(x) vdupq_n_u32(x)
#define LOAD(p) vld1q_u32(p)
#define STORE(p, x) vst1q_u32(p, x)
#define ROT16(x) vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)))
#define ROT12(x) vsriq_n_u32(vshlq_n_u32(x, 20), x, 12)
#define ROT8(x) vsriq_n_u32(vshlq_n_u32(x, 24), x, 8)
#define ROT7(x) vsriq_n_u32(vshlq_n_u32(x, 25), x, 7)
#define SELECT(mask, a, b) vbslq_u32(mask, a, b)
static inline void words_neon(const uint8_t *const blocks[4], uint32x4_t m[16])
{
    for (int part = 0; part < 4; part++) {
        uint32x4_t r[4];
        for (int l = 0; l < 4; l++)
            r[l] = vreinterpretq_u32_u8(vld1q_u8(blocks[l] + 16 * part));
        uint32x4_t ac = vzip1q_u32(r[0], r[2]), bd = vzip1q_u32(r[1], r[3]);
        uint32x4_t ac2 = vzip2q_u32(r[0], r[2]), bd2 = vzip2q_u32(r[1], r[3]);
        m[4 * part] = vzip1q_u32(ac, bd);
        m[4 * part + 1] = vzip2q_u32(ac, bd);
        m[4 * part + 2] = vzip1q_u32(ac2, bd2);
        m[4 * part + 3] = vzip2q_u32(ac2, bd2);
    }
}
#include "hash_lanes.h"
#endif

static size_t lane_count(int impl)
{
    switch (impl) {
    case CASIMG_IMPL_AVX512:
        return 16;
    case CASIMG_IMPL_AVX2:
        return 8;
    case CASIMG_IMPL_SCALAR:
        return 1;
    default:
        return 4;
    }
}

static void run(int impl, const struct job *jobs, size_t count)
{
    switch (impl) {
#if defined(__x86_64__) || defined(__i386__)
    case CASIMG_IMPL_SSE41:
        run_sse41(jobs, count);
        return;
    case CASIMG_IMPL_AVX2:
        run_avx2(jobs, count);
        return;
#if defined(__x86_64__)
    case CASIMG_IMPL_AVX512:
        run_avx512(jobs, count);
        return;
#endif
#endif
#if defined(__aarch64__)
    case CASIMG_IMPL_NEON:
        run_neon(jobs, count);
        return;
#endif
    default:
        for (size_t k = 0; k < count; k++)
            run_scalar(jobs + k, 1);
    }
}

/* Jobs wait here until they fill the lanes. */
struct queue {
    struct job jobs[LANES_MAX];
    size_t count, lanes;
    int impl;
};

static void flush(struct queue *queue)
{
    if (queue->count)
        run(queue->impl, queue->jobs, queue->count);
    queue->count = 0;
}

static inline void push(struct queue *queue, struct job job)
{
    queue->jobs[queue->count++] = job;
    if (queue->count == queue->lanes)
        flush(queue);
}

static struct job leaf_job(const uint8_t *data, size_t piece_size, uint32_t number, uint8_t *out)
{
    size_t at = (size_t)number * LEAF, left = piece_size - at;
    uint32_t root = piece_size <= LEAF ? ROOT : 0;
    return (struct job){data + at, out, (uint32_t)(left < LEAF ? left : LEAF), number, 0, CHUNK_START, CHUNK_END | root};
}

static size_t leaf_count(uint32_t size)
{
    return (size + LEAF - 1) / LEAF;
}

int casimg_hash_entries(int impl, const uint8_t *d, const uint32_t *entries, size_t count, uint8_t *ids)
{
    size_t total = 0, shorts[LEAF / BLOCK + 1] = {0}, pieces = 0, most = 0;
    for (size_t k = 0; k < count; k++) {
        if (entries[k] & CASIMG_HOLE_FLAG)
            continue;
        size_t leaves = leaf_count(entries[k]);
        total += leaves;
        most = leaves > most ? leaves : most;
        pieces++;
        if (entries[k] % LEAF)
            shorts[(entries[k] % LEAF + BLOCK - 1) / BLOCK]++;
    }
    if (!pieces)
        return 0;
    /* Values of the leaves, then of each level in turn; the jobs of the short last leaves, sorted by length. */
    uint8_t *values = malloc(2 * total * OUT + pieces * sizeof(struct job));
    if (!values)
        return -1;
    uint8_t *next = values + total * OUT;
    struct job *last = (struct job *)(next + total * OUT);
    size_t sum = 0;
    for (size_t blocks = 0; blocks <= LEAF / BLOCK; blocks++) {
        size_t here = shorts[blocks];
        shorts[blocks] = sum;
        sum += here;
    }
    struct queue queue = {.lanes = lane_count(impl), .impl = impl};
    uint8_t *out = values;
    const uint8_t *at = d;
    for (size_t k = 0; k < count; k++) {
        uint32_t size = entries[k] & ~CASIMG_HOLE_FLAG;
        if (!(entries[k] & CASIMG_HOLE_FLAG)) {
            uint32_t leaves = (uint32_t)leaf_count(size);
            for (uint32_t number = 0; number < leaves; number++, out += OUT) {
                struct job job = leaf_job(at, size, number, out);
                if (job.size == LEAF)
                    push(&queue, job);
                else
                    last[shorts[(job.size + BLOCK - 1) / BLOCK]++] = job;
            }
        }
        at += size;
    }
    flush(&queue);
    for (size_t k = 0; k < sum; k++)
        push(&queue, last[k]);
    flush(&queue);

    /* One level of parents of all pieces at a time; from one buffer to the other, as jobs may wait in the queue. */
    for (size_t height = 0; (size_t)1 << height < most; height++) {
        size_t first = 0;
        for (size_t k = 0; k < count; k++) {
            if (entries[k] & CASIMG_HOLE_FLAG)
                continue;
            size_t leaves = leaf_count(entries[k]);
            size_t have = (leaves + ((size_t)1 << height) - 1) >> height;
            uint8_t *from = values + first * OUT, *to = next + first * OUT;
            for (size_t pair = 0; pair < have / 2; pair++)
                push(&queue, (struct job){from + 2 * pair * OUT, to + pair * OUT, BLOCK, 0,
                                          PARENT | (have == 2 ? ROOT : 0), 0, 0});
            if (have % 2)
                memcpy(to + have / 2 * OUT, from + (have - 1) * OUT, OUT);
            first += leaves;
        }
        flush(&queue);
        uint8_t *swap = values;
        values = next;
        next = swap;
    }
    size_t first = 0;
    for (size_t k = 0; k < count; k++) {
        if (entries[k] & CASIMG_HOLE_FLAG)
            continue;
        memcpy(ids, values + first * OUT, OUT);
        ids += OUT;
        first += leaf_count(entries[k]);
    }
    free(values < next ? values : next);
    return 0;
}
