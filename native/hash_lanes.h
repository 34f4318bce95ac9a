/* The hash of one block in every lane of a vector, written once for all vectors. Included by hash.c with these defined:
 *
 *   NAME(x)   names for this vector          LANES   32-bit lanes in it         TARGET   attribute of its functions
 *   VEC, ADD, XOR, SET1, LOAD, STORE, ROT16, ROT12, ROT8, ROT7                  SELECT(mask, a, b)   a where mask is set
 *   NAME(words)(const uint8_t *const blocks[LANES], VEC m[16])                  word i of every block to m[i]
 */

#define G(a, b, c, d, x, y)                                                                                            \
    do {                                                                                                               \
        v[a] = ADD(ADD(v[a], v[b]), m[x]);                                                                             \
        v[d] = ROT16(XOR(v[d], v[a]));                                                                                 \
        v[c] = ADD(v[c], v[d]);                                                                                        \
        v[b] = ROT12(XOR(v[b], v[c]));                                                                                 \
        v[a] = ADD(ADD(v[a], v[b]), m[y]);                                                                             \
        v[d] = ROT8(XOR(v[d], v[a]));                                                                                  \
        v[c] = ADD(v[c], v[d]);                                                                                        \
        v[b] = ROT7(XOR(v[b], v[c]));                                                                                  \
    } while (0)

/* Columns, then diagonals. The words of the message are permuted from round to round: S[r] is the order in round r. */
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                    \
    do {                                                                                                               \
        G(0, 4, 8, 12, s0, s1);                                                                                        \
        G(1, 5, 9, 13, s2, s3);                                                                                        \
        G(2, 6, 10, 14, s4, s5);                                                                                       \
        G(3, 7, 11, 15, s6, s7);                                                                                       \
        G(0, 5, 10, 15, s8, s9);                                                                                       \
        G(1, 6, 11, 12, s10, s11);                                                                                     \
        G(2, 7, 8, 13, s12, s13);                                                                                      \
        G(3, 4, 9, 14, s14, s15);                                                                                      \
    } while (0)

TARGET static inline void NAME(compress)(VEC cv[8], const uint8_t *const blocks[LANES], VEC counter, VEC size, VEC flags)
{
    VEC m[16], v[16];
    NAME(words)(blocks, m);
    for (int i = 0; i < 8; i++)
        v[i] = cv[i];
    for (int i = 0; i < 4; i++)
        v[8 + i] = SET1(IV[i]);
    v[12] = counter;
    v[13] = SET1(0); /* the counter's high word: a piece is no longer than a segment */
    v[14] = size;
    v[15] = flags;
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);
    ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);
    ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);
    ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);
    ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);
    ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);
    for (int i = 0; i < 8; i++)
        cv[i] = XOR(v[i], v[i + 8]);
}

TARGET static inline void NAME(put)(const struct job *jobs, size_t count, const VEC cv[8])
{
    uint32_t out[8][LANES];
    for (int i = 0; i < 8; i++)
        STORE(out[i], cv[i]);
    for (size_t l = 0; l < count; l++)
        for (int i = 0; i < 8; i++)
            put_word(jobs[l].out + 4 * i, out[i][l]);
}

/* Jobs of whole blocks and one length fill all lanes: nearly all leaves, and the parents. */
TARGET static void NAME(run_even)(const struct job *jobs)
{
    uint32_t numbers[LANES], flags[LANES], first[LANES], last[LANES];
    const uint8_t *blocks[LANES];
    VEC cv[8];
    for (int i = 0; i < 8; i++)
        cv[i] = SET1(IV[i]);
    for (size_t l = 0; l < LANES; l++) {
        blocks[l] = jobs[l].data;
        numbers[l] = jobs[l].counter;
        flags[l] = jobs[l].flags;
        first[l] = jobs[l].flags | jobs[l].first;
        last[l] = jobs[l].last;
    }
    const VEC counter = LOAD(numbers), size = SET1(BLOCK);
    VEC now = LOAD(first);
    for (uint32_t left = jobs[0].size / BLOCK; left > 0; left--) {
        if (left == 1)
            now = XOR(now, LOAD(last));
        NAME(compress)(cv, blocks, counter, size, now);
        now = LOAD(flags);
        for (size_t l = 0; l < LANES; l++)
            blocks[l] += BLOCK;
    }
    NAME(put)(jobs, LANES, cv);
}

/* Up to LANES jobs of any length in step: a lane that has ended keeps its value. Jobs of about one length come together
 * (hash.c sorts them), so few lanes idle. */
TARGET static void NAME(run)(const struct job *jobs, size_t count)
{
    int even = count == LANES && jobs[0].size % BLOCK == 0;
    for (size_t l = 1; l < count; l++)
        even &= jobs[l].size == jobs[0].size;
    if (even) {
        NAME(run_even)(jobs);
        return;
    }
    uint8_t last[LANES][BLOCK];
    uint32_t counters[LANES], sizes[LANES], flags[LANES], live[LANES];
    const uint8_t *blocks[LANES];
    uint32_t steps = 0;
    VEC cv[8];
    for (int i = 0; i < 8; i++)
        cv[i] = SET1(IV[i]);
    for (size_t l = 0; l < LANES; l++) {
        const struct job *job = l < count ? &jobs[l] : &jobs[0];
        uint32_t own = (job->size + BLOCK - 1) / BLOCK, rest = job->size - (own - 1) * BLOCK;
        counters[l] = job->counter;
        steps = own > steps ? own : steps;
        memcpy(last[l], job->data + job->size - rest, rest);
        memset(last[l] + rest, 0, BLOCK - rest);
    }
    const VEC counter = LOAD(counters);
    for (uint32_t step = 0; step < steps; step++) {
        VEC before[8];
        for (int i = 0; i < 8; i++)
            before[i] = cv[i];
        for (size_t l = 0; l < LANES; l++) {
            const struct job *job = l < count ? &jobs[l] : &jobs[0];
            uint32_t at = step * BLOCK, ended = at >= job->size, left = ended ? 0 : job->size - at;
            blocks[l] = left > BLOCK ? job->data + at : last[l];
            sizes[l] = left < BLOCK ? left : BLOCK;
            flags[l] = job->flags | (step ? 0 : job->first) | (left > BLOCK ? 0 : job->last);
            live[l] = ended ? 0 : UINT32_MAX;
        }
        const VEC mask = LOAD(live);
        NAME(compress)(cv, blocks, counter, LOAD(sizes), LOAD(flags));
        for (int i = 0; i < 8; i++)
            cv[i] = SELECT(mask, cv[i], before[i]);
    }
    NAME(put)(jobs, count, cv);
}

#undef G
#undef ROUND
#undef NAME
#undef LANES
#undef TARGET
#undef VEC
#undef ADD
#undef XOR
#undef SET1
#undef LOAD
#undef STORE
#undef ROT16
#undef ROT12
#undef ROT8
#undef ROT7
#undef SELECT
