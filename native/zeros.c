/* How many leading bytes are zero. A block of data is usually refused at its first bytes; a hole runs at memory speed. */
#include "casimg_native.h"

#include <string.h>

size_t casimg_zero_prefix_scalar(const uint8_t *d, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, d + i, 8);
        if (word)
            break;
    }
    while (i < n && !d[i])
        i++;
    return i;
}

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

__attribute__((target("avx2"))) size_t casimg_zero_prefix_avx2(const uint8_t *d, size_t n)
{
    size_t i = 0;
    for (; i + 128 <= n; i += 128) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(d + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(d + i + 32));
        __m256i c = _mm256_loadu_si256((const __m256i *)(d + i + 64));
        __m256i e = _mm256_loadu_si256((const __m256i *)(d + i + 96));
        __m256i any = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, e));
        if (!_mm256_testz_si256(any, any))
            break;
    }
    return i + casimg_zero_prefix_scalar(d + i, n - i);
}

__attribute__((target("sse4.1"))) size_t casimg_zero_prefix_sse41(const uint8_t *d, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(d + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(d + i + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(d + i + 32));
        __m128i e = _mm_loadu_si128((const __m128i *)(d + i + 48));
        __m128i any = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, e));
        if (!_mm_testz_si128(any, any))
            break;
    }
    return i + casimg_zero_prefix_scalar(d + i, n - i);
}
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

size_t casimg_zero_prefix_neon(const uint8_t *d, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        uint8x16_t any = vorrq_u8(vorrq_u8(vld1q_u8(d + i), vld1q_u8(d + i + 16)),
                                  vorrq_u8(vld1q_u8(d + i + 32), vld1q_u8(d + i + 48)));
        if (vmaxvq_u8(any))
            break;
    }
    return i + casimg_zero_prefix_scalar(d + i, n - i);
}
#endif
