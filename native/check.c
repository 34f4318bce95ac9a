/* Compare every implementation with its scalar twin on buffers that end exactly where the data ends, so that a read
 * past the end is caught by AddressSanitizer; and print golden cuts for comparison with the Python twin.
 *
 *   check compare     many sizes, alignments and contents; cuts, zero scans and hashes; items of the index
 *   check hash        print BLAKE3 of the official test input (bytes 0, 1, .. 250, 0, ..) for many sizes, one line each
 *   check golden      read "kind min avg max seed size zero_from zero_to" lines, print "count hash" lines
 */
#include "casimg_native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int impls[] = {CASIMG_IMPL_SSE41, CASIMG_IMPL_AVX2, CASIMG_IMPL_NEON, CASIMG_IMPL_AVX512};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static void fill(uint8_t *d, size_t n, uint64_t seed, size_t zero_from, size_t zero_to)
{
    uint64_t state = seed;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = next_random(&state);
        for (size_t k = 0; k < 8 && i + k < n; k++)
            d[i + k] = (uint8_t)(word >> (8 * k));
    }
    for (size_t i = zero_from; i < zero_to && i < n; i++)
        d[i] = 0;
}

static int compare_one(const uint8_t *d, size_t n, int kind, uint32_t min, uint32_t avg, uint32_t max)
{
    size_t capacity = CASIMG_SEGMENT_SIZE / 512 + 2048;
    uint32_t *a = malloc(4 * capacity), *b = malloc(4 * capacity);
    long expected = casimg_cut_segment(CASIMG_IMPL_SCALAR, kind, d, n, min, avg, max, a, capacity);
    int bad = 0;
    size_t sum = 0;
    for (long i = 0; i < expected; i++)
        sum += a[i] & ~CASIMG_HOLE_FLAG;
    if (expected < 0 || sum != n)
        bad = 1;
    uint8_t *ids = malloc(32 * capacity), *other = malloc(32 * capacity);
    if (casimg_hash_entries(CASIMG_IMPL_SCALAR, d, a, (size_t)expected, ids))
        bad = 1;
    size_t chunks = 0;
    for (long i = 0; i < expected; i++)
        chunks += !(a[i] & CASIMG_HOLE_FLAG);
    for (size_t k = 0; k < sizeof impls / sizeof *impls; k++) {
        if (!casimg_has(impls[k]))
            continue;
        long found = casimg_cut_segment(impls[k], kind, d, n, min, avg, max, b, capacity);
        if (found != expected || memcmp(a, b, 4 * (size_t)expected))
            bad = 1;
        if (casimg_cut_and_hash(impls[k], kind, d, n, min, avg, max, b, capacity, other) != expected ||
            memcmp(ids, other, 32 * chunks))
            bad = 1;
        if (casimg_zero_prefix(impls[k], d, n) != casimg_zero_prefix(CASIMG_IMPL_SCALAR, d, n))
            bad = 1;
    }
    free(a);
    free(b);
    free(ids);
    free(other);
    if (bad)
        printf("DIFFERENT kind=%d min=%u n=%zu\n", kind, min, n);
    return bad;
}

static int compare(void)
{
    uint64_t state = 1;
    int bad = 0, count = 0;
    for (int round = 0; round < 1500; round++) {
        size_t edges[] = {0, 1, 3, 4, 2047, 2048, 2049, 4095, 4096, 4097, 6143, 6144, 6145, 8192, 12288, 24576};
        size_t n = round % 3 ? next_random(&state) % 300000 : edges[next_random(&state) % 16] + next_random(&state) % 3;
        size_t shift = next_random(&state) % 33;
        uint8_t *block = malloc(n + shift ? n + shift : 1); /* ends exactly with the data */
        uint8_t *d = block + shift;
        size_t from = n ? next_random(&state) % n : 0, to = from + next_random(&state) % 60000;
        fill(d, n, next_random(&state), from, to);
        if (round % 5 == 0)
            memset(d, (int)(next_random(&state) & 3), n);
        if (round % 7 == 0)
            for (size_t i = 0; i < n; i++)
                d[i] = (uint8_t)(i % 5);
        bad |= compare_one(d, n, CASIMG_MINCDC, 2048, 4096, 6144);
        bad |= compare_one(d, n, CASIMG_MINCDC, 8192, 16384, 24576);
        bad |= compare_one(d, n, CASIMG_FASTCDC, 1024, 4096, 16384);
        bad |= compare_one(d, n, CASIMG_FIXED, 4096, 4096, 4096);
        count += 4;
        free(block);
    }
    uint32_t few[1];
    uint8_t *two = calloc(2, 8192);
    two[0] = two[9000] = 1;
    if (casimg_cut_segment(0, CASIMG_FIXED, two, 16384, 4096, 4096, 4096, few, 1) != -1)
        bad = 1;
    free(two);
    printf("%d comparisons, %s\n", count, bad ? "DIFFERENCES" : "all equal");
    return bad;
}

/* Items of frames with random counts, each made again one bit at a time; sorted, they are the same ones in order. */
static int compare_items(void)
{
    uint64_t state = 2;
    int bad = 0;
    for (int round = 0; round < 300; round++) {
        uint32_t frames[3 * 40];
        size_t frame_count = next_random(&state) % 40, count = 0;
        for (size_t i = 0; i < frame_count; i++) {
            frames[3 * i] = (uint32_t)next_random(&state);
            frames[3 * i + 1] = (uint32_t)next_random(&state);
            count += frames[3 * i + 2] = (uint32_t)(next_random(&state) % 30);
        }
        uint32_t *sizes = malloc(4 * count + 1);
        uint8_t *ids = malloc(32 * count + 1), *items = malloc(CASIMG_ITEM_SIZE * count + 1);
        uint32_t pack_no = (uint32_t)next_random(&state);
        for (size_t i = 0; i < count; i++)
            sizes[i] = (uint32_t)next_random(&state);
        fill(ids, 32 * count, next_random(&state), 0, round % 3 ? 0 : 32 * count);
        bad |= casimg_place_items(pack_no, frames, frame_count, sizes, ids, count, items) != 0;
        for (size_t frame = 0, entry = 0; frame < frame_count; frame++)
            for (uint32_t position = 0; position < frames[3 * frame + 2]; position++, entry++) {
                const uint8_t *item = items + CASIMG_ITEM_SIZE * entry, *body = item + 32;
                uint32_t want[4] = {pack_no, frames[3 * frame], frames[3 * frame + 1], position << 16 | sizes[entry] >> 16};
                uint32_t crc = ~0u;
                for (size_t i = 0; i < 50; i++) {
                    crc ^= i < 18 ? body[i] : item[i - 18];
                    for (int bit = 0; bit < 8; bit++)
                        crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
                }
                bad |= memcmp(item, ids + 32 * entry, 32) != 0;
                for (int i = 0; i < 16; i++)
                    bad |= body[i] != (uint8_t)(want[i / 4] >> (24 - i % 4 * 8));
                bad |= body[16] != (uint8_t)(sizes[entry] >> 8) || body[17] != (uint8_t)sizes[entry];
                bad |= body[18] != (uint8_t)(~crc >> 8) || body[19] != (uint8_t)~crc;
            }
        casimg_sort_items(items, count);
        for (size_t i = 1; i < count; i++)
            bad |= memcmp(items + CASIMG_ITEM_SIZE * (i - 1), items + CASIMG_ITEM_SIZE * i, CASIMG_ITEM_SIZE) > 0;
        if (count && casimg_place_items(pack_no, frames, frame_count, sizes, ids, count - 1, items) != -1)
            bad = 1;
        if (casimg_place_items(pack_no, frames, frame_count / 2, sizes, ids, count + 1, items) != -1)
            bad = 1;
        free(sizes);
        free(ids);
        free(items);
    }
    printf("items of the index, %s\n", bad ? "DIFFERENCES" : "all equal");
    return bad;
}

static int golden(void)
{
    int kind;
    unsigned min, avg, max;
    unsigned long long seed;
    size_t n, from, to;
    while (scanf("%d %u %u %u %llu %zu %zu %zu", &kind, &min, &avg, &max, &seed, &n, &from, &to) == 8) {
        uint8_t *d = malloc(n ? n : 1);
        uint32_t *entries = malloc(4 * 16384);
        fill(d, n, seed, from, to);
        for (int impl = CASIMG_IMPL_AVX512; impl >= 0; impl--) {
            if (!casimg_has(impl))
                continue;
            long count = casimg_cut_segment(impl, kind, d, n, min, avg, max, entries, 16384);
            uint64_t h = 0xCBF29CE484222325ull; /* FNV-1a over the entries */
            for (long i = 0; i < count; i++)
                h = (h ^ entries[i]) * 0x100000001B3ull;
            printf("%d %ld %016llx\n", impl, count, (unsigned long long)h);
        }
        free(d);
        free(entries);
    }
    return 0;
}

static int hashes(void)
{
    uint8_t *d = malloc(110000), id[32];
    for (size_t i = 0; i < 110000; i++)
        d[i] = (uint8_t)(i % 251);
    for (uint32_t size = 1; size < 110000; size += size < 2200 ? 1 : 971)
        for (int impl = CASIMG_IMPL_AVX512; impl >= 0; impl--) {
            if (!casimg_has(impl))
                continue;
            casimg_hash_entries(impl, d, &size, 1, id);
            printf("%u ", size);
            for (int i = 0; i < 32; i++)
                printf("%02x", id[i]);
            printf("\n");
        }
    free(d);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "compare"))
        return compare() | compare_items();
    if (argc == 2 && !strcmp(argv[1], "golden"))
        return golden();
    if (argc == 2 && !strcmp(argv[1], "hash"))
        return hashes();
    fprintf(stderr, "check compare | golden | hash\n");
    return 2;
}
