/* The index items of a pack's entries in one call: id 32 | place 20, as casimg/index/place.py says. */
#include "casimg_native.h"

#include <stdlib.h>
#include <string.h>

enum { ID_SIZE = 32, BODY_SIZE = 18, ITEM_SIZE = CASIMG_ITEM_SIZE };

/* A table for each call: a thousand steps beside fifty for each of thousands of entries, and nothing shared. */
static void fill_crc_table(uint32_t table[256])
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        table[byte] = crc;
    }
}

/* One more piece of what a CRC-32 (as zlib's) is over; it begins and ends with its bits turned over. */
static uint32_t crc_on(const uint32_t table[256], uint32_t crc, const uint8_t *d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        crc = table[(crc ^ d[i]) & 0xFF] ^ crc >> 8;
    return crc;
}

static void put_u16(uint8_t *d, uint32_t number)
{
    d[0] = (uint8_t)(number >> 8);
    d[1] = (uint8_t)number;
}

static void put_u32(uint8_t *d, uint32_t number)
{
    put_u16(d, number >> 16);
    put_u16(d + 2, number);
}

int casimg_place_items(uint32_t pack_no, const uint32_t *frames, size_t frame_count, const uint32_t *sizes,
                       const uint8_t *ids, size_t count, uint8_t *items)
{
    uint32_t table[256];
    size_t entry = 0;
    fill_crc_table(table);
    for (size_t frame = 0; frame < frame_count; frame++) {
        uint32_t chunk_count = frames[3 * frame + 2];
        if (chunk_count > count - entry || chunk_count > CASIMG_FRAME_CHUNKS_MAX)
            return -1;
        for (uint32_t position = 0; position < chunk_count; position++, entry++) {
            uint8_t *id = items + ITEM_SIZE * entry, *body = id + ID_SIZE;
            memcpy(id, ids + ID_SIZE * entry, ID_SIZE);
            put_u32(body, pack_no);
            put_u32(body + 4, frames[3 * frame]);
            put_u32(body + 8, frames[3 * frame + 1]);
            put_u16(body + 12, position);
            put_u32(body + 14, sizes[entry]);
            uint32_t crc = crc_on(table, ~0u, body, BODY_SIZE);
            put_u16(body + BODY_SIZE, ~crc_on(table, crc, id, ID_SIZE));
        }
    }
    return entry == count ? 0 : -1;
}

static int compare_items(const void *a, const void *b)
{
    return memcmp(a, b, ITEM_SIZE);
}

void casimg_sort_items(uint8_t *items, size_t count)
{
    qsort(items, count, ITEM_SIZE, compare_items);
}
