/* FastCDC 2020 with normalised chunking of level 2, for comparisons.
 *
 * Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
 * TPDS 2020. Fixed here, where the paper leaves room (docs/format.md, "Cuts"): the Gear table is splitmix64 of the
 * seed 0x6361_7369_6D67_0001; masks are the top bits; the hash is 0 at size_min; the cut is after the byte that matches.
 */
#include "casimg_native.h"

static uint64_t gear[256];
static int gear_ready;

/* Racing threads write the same values, so no lock is needed; the flag is set last. */
static void make_gear(void)
{
    uint64_t state = 0x636173696D670001ull;
    for (int i = 0; i < 256; i++) {
        uint64_t z = (state += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        gear[i] = z ^ (z >> 31);
    }
    __atomic_store_n(&gear_ready, 1, __ATOMIC_RELEASE);
}

static inline uint64_t top_mask(unsigned bits)
{
    return ~0ull << (64 - bits);
}

size_t casimg_fastcdc_scalar(const uint8_t *d, size_t n, uint32_t size_min, uint32_t size_avg)
{
    if (n <= size_min)
        return n;
    if (!__atomic_load_n(&gear_ready, __ATOMIC_ACQUIRE))
        make_gear();
    unsigned bits = 31u - (unsigned)__builtin_clz(size_avg);
    const uint64_t strict = top_mask(bits + 2), loose = top_mask(bits - 2);
    size_t normal = n < size_avg ? n : size_avg;
    uint64_t h = 0;
    size_t i = size_min;
    for (; i < normal; i++) {
        h = (h << 1) + gear[d[i]];
        if (!(h & strict))
            return i + 1;
    }
    for (; i < n; i++) {
        h = (h << 1) + gear[d[i]];
        if (!(h & loose))
            return i + 1;
    }
    return n;
}
