/* libFuzzer target: any bytes, any chunker, every implementation equals the scalar one and the sizes add up; any list
 * of frames and entries, whose items of the index are all made or the list is refused, and that stay the same, sorted. */
#include "casimg_native.h"

#include <stdlib.h>
#include <string.h>

static int compare_items(const void *a, const void *b)
{
    return memcmp(a, b, CASIMG_ITEM_SIZE);
}

static void fuzz_items(const uint8_t *data, size_t size)
{
    /* Byte 0: how many frames; then 12 bytes for each, 36 for each entry, in buffers that end where they end. */
    size_t frame_count = data[0] % 16, listed = 0;
    if (size < 1 + 12 * frame_count)
        return;
    size_t count = (size - 1 - 12 * frame_count) / 36;
    uint32_t *frames = malloc(12 * frame_count + 1), *sizes = malloc(4 * count + 1);
    uint8_t *ids = malloc(32 * count + 1), *items = malloc(CASIMG_ITEM_SIZE * count), *sorted;
    memcpy(frames, data + 1, 12 * frame_count);
    for (size_t i = 0; i < frame_count; i++) {
        if (data[0] & 16) /* counts that may well fit */
            frames[3 * i + 2] = i + 1 < frame_count ? frames[3 * i + 2] % 5 : (uint32_t)(count - listed);
        listed += frames[3 * i + 2];
    }
    memcpy(sizes, data + 1 + 12 * frame_count, 4 * count);
    memcpy(ids, data + 1 + 12 * frame_count + 4 * count, 32 * count);
    int failed = casimg_place_items(7, frames, frame_count, sizes, ids, count, items);
    if (!failed != (listed == count))
        abort();
    if (!failed) {
        sorted = malloc(CASIMG_ITEM_SIZE * count);
        memcpy(sorted, items, CASIMG_ITEM_SIZE * count);
        casimg_sort_items(sorted, count);
        for (size_t i = 0; i < count; i++)
            if (memcmp(items + CASIMG_ITEM_SIZE * i, ids + 32 * i, 32) ||
                !bsearch(items + CASIMG_ITEM_SIZE * i, sorted, count, CASIMG_ITEM_SIZE, compare_items) ||
                (i && compare_items(sorted + CASIMG_ITEM_SIZE * (i - 1), sorted + CASIMG_ITEM_SIZE * i) > 0))
                abort();
        free(sorted);
    }
    free(frames);
    free(sizes);
    free(ids);
    free(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t a[16384], b[16384];
    static uint8_t ids[32 * 16384], other[32 * 16384];
    static const int impls[] = {CASIMG_IMPL_SSE41, CASIMG_IMPL_AVX2, CASIMG_IMPL_NEON, CASIMG_IMPL_AVX512};
    if (size < 2)
        return 0;
    fuzz_items(data, size);
    int kind = data[0] % 3;
    uint32_t avg = kind == CASIMG_FIXED ? 4096u : 64u << (data[0] / 3 % 7);
    uint32_t min = kind == CASIMG_FIXED ? avg : kind == CASIMG_FASTCDC ? avg / 4 : avg / 2;
    uint32_t max = kind == CASIMG_FIXED ? avg : kind == CASIMG_FASTCDC ? avg * 4 : avg * 3 / 2;
    /* Short inputs are repeated, so that holes and many chunks come up. */
    size_t n = (size - 1) * (1 + data[1] % 64);
    if (n > 200000)
        n = 200000;
    uint8_t *d = malloc(n);
    for (size_t i = 0; i < n; i++)
        d[i] = data[1 + i % (size - 1)];
    long count = casimg_cut_segment(CASIMG_IMPL_SCALAR, kind, d, n, min, avg, max, a, 16384);
    size_t sum = 0;
    for (long i = 0; i < count; i++)
        sum += a[i] & ~CASIMG_HOLE_FLAG;
    if (count >= 0 && sum != n)
        abort();
    if (count > 0 && casimg_hash_entries(CASIMG_IMPL_SCALAR, d, a, (size_t)count, ids))
        abort();
    size_t chunks = 0;
    for (long i = 0; i < count; i++)
        chunks += !(a[i] & CASIMG_HOLE_FLAG);
    for (size_t k = 0; k < sizeof impls / sizeof *impls; k++) {
        if (!casimg_has(impls[k]))
            continue;
        if (count > 0 && (casimg_hash_entries(impls[k], d, a, (size_t)count, other) || memcmp(ids, other, 32 * chunks)))
            abort();
        long found = casimg_cut_segment(impls[k], kind, d, n, min, avg, max, b, 16384);
        if (found != count || (count > 0 && memcmp(a, b, 4 * (size_t)count)))
            abort();
    }
    free(d);
    return 0;
}
