/* tests/guests/hostile.c - a guest that tries everything, and counts what it was let do. Run by test_hostile.c.
 *
 * storm(seed, rounds)  calls imports at random with the numbers that one would try; returns how many succeeded, or traps
 *                      if one answers with something that is no status, or fails without a message
 * spoil(seed)          fills its sessions' blocks and logits with rubbish while it uses them; 0 if every token that came
 *                      of it is one
 * exhaust()            takes all handles and all memory, gives them back, and does it again; 0 if that is as it should be
 * honest()             a hash of the logits after a few tokens: what a guest that means well computes
 * made()               a handle of a session of its own; use(handle) tries it: the status
 * wild(kind)           reads, writes or jumps where it may not
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "samepage.h"

#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(storm) int32_t storm(uint32_t seed, int32_t rounds);
EXPORT(spoil) int32_t spoil(uint32_t seed);
EXPORT(exhaust) int32_t exhaust(void);
EXPORT(honest) int32_t honest(void);
EXPORT(made) int32_t made(void);
EXPORT(use) int32_t use(int32_t handle);
EXPORT(wild) int32_t wild(int32_t kind);

static uint32_t state;
static int32_t handles[16];
static uint32_t handle_count;

static uint32_t next(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static uint32_t nasty(void) {
    static const uint32_t small[] = {0, 1, 2, 3, 4, 7, 16, 48, 64, 255, 256, 4096, 65536};
    uint32_t size = (uint32_t)__builtin_wasm_memory_size(0) << 16;
    switch (next() % 8) {
    case 0: return (uint32_t)handles[next() % 16];
    case 1: return size - small[next() % 13];
    case 2: return size + small[next() % 13];
    case 3: return UINT32_MAX - small[next() % 13];
    case 4: return 1u << next() % 32;
    case 5: return next();
    default: return small[next() % 13];
    }
}

/* A place that it may write to without shooting itself, or a nasty one. */
static uint32_t place(void) {
    static uint8_t room[65536];
    return next() % 2 ? (uint32_t)(uintptr_t)room + next() % 256 * 4 : nasty() | 0x80000000u;
}

static void *at(uint32_t address) {
    return (void *)(uintptr_t)address;
}

/* A positive handle is kept. It takes the place of another, which is closed or, now and then, forgotten; either way it
 * stays one that the guest has seen. */
static int32_t keep(int32_t handle) {
    if (handle > 0) {
        int32_t *slot = &handles[handle_count++ % 16];
        if (next() % 16) {
            sp_import_session_destroy(*slot);
            sp_import_sampler_destroy(*slot);
            sp_import_model_close(*slot);
        }
        *slot = handle;
    }
    return handle;
}

static int32_t call_text(uint32_t which) {
    uint32_t p = place(), q = place();
    switch (which) {
    case 0: return sp_import_error_message(at(p), nasty() & 0xffff);
    case 1: return sp_import_model_name(nasty(), at(p), nasty() & 0xffff);
    case 2: return sp_import_model_metadata(handles[next() % 16], at(p), nasty(), at(q), nasty() & 0xffff);
    case 3: return sp_import_tokenize((int32_t)nasty(), at(p), nasty() & 0xffff, next() % 5, at(q), nasty() & 0x3fff);
    case 4: return sp_import_detokenize((int32_t)nasty(), at(p), nasty() & 0x3fff, next() % 3, at(q), nasty() & 0xffff);
    case 5: return sp_import_token_is_end((int32_t)nasty(), (int32_t)nasty());
    case 6: return sp_import_token_find((int32_t)nasty(), at(p), nasty());
    case 7: return sp_import_token_bos((int32_t)nasty());
    case 8: return sp_import_device_name(at(p), nasty() & 0xffff);
    default: return sp_import_counters(at(p), nasty() & 0xffff);
    }
}

static int32_t call_session(uint32_t which) {
    int32_t h = (int32_t)nasty(), g = handles[next() % 16];
    uint32_t p = place();
    switch (which) {
    case 0: return keep(sp_import_model_open(at(p), next() % 2 ? 0 : nasty()));
    case 1: return sp_import_model_close(h);
    case 2: return sp_import_model_info(h, at(p), nasty() & 0xffff);
    case 3: return keep(sp_import_session_create(g, nasty(), nasty()));
    case 4: return keep(sp_import_session_create(g, next() % 100, next() % 3));
    case 5: return sp_import_session_append(g, at(p), next() % 64, (int32_t)(next() % 4));
    case 6: return sp_import_session_append(h, at(p), nasty(), (int32_t)nasty());
    case 7: return next() % 2 ? sp_import_session_truncate(g, nasty()) : sp_import_session_edited(g, nasty(), nasty());
    case 8: return sp_import_session_tokens(g, at(p), nasty() & 0x3fff);
    case 9: return sp_import_session_info(g, at(p), nasty() & 0xffff);
    default: return sp_import_session_destroy(g);
    }
}

static int32_t call_other(uint32_t which) {
    int32_t h = (int32_t)nasty(), g = handles[next() % 16];
    uint32_t p = place(), q = place();
    switch (which) {
    case 0: return keep(sp_import_sampler_create(at(p), nasty() & 0xff));
    case 1: return sp_import_sampler_accept(g, h);
    case 2: return sp_import_sampler_pick(g, at(p), nasty() & 0x3fff);
    case 3: return sp_import_session_sample(g, handles[next() % 16]);
    case 4: return sp_import_sampler_destroy(h);
    case 5: return sp_import_matmul(at(p), at(q), at(p), nasty(), nasty(), nasty(), (int32_t)(next() % 4));
    case 6:
        return sp_import_matmul(at(p & ~15u), at(q & ~15u), at(place() & ~15u), next() % 40, next() % 40, next() % 40,
                                (int32_t)(next() % 2));
    case 7: return sp_import_session_lookup(g, (int32_t)nasty(), at(p), nasty() & 0xff);
    case 8: return sp_import_session_pick(g, handles[next() % 16], at(p), next() % 2 ? 1 : nasty());
    default: return sp_import_session_length(h);
    }
}

int32_t storm(uint32_t seed, int32_t rounds) {
    int32_t succeeded = 0;
    state = seed | 1;
    for (int32_t i = 0; i < rounds; i++) {
        uint32_t which = next() % 31;
        int32_t result = which < 10 ? call_text(which) : which < 21 ? call_session(which - 10) : call_other(which - 21);
        succeeded += result >= 0;
        if (result < SP_INTERNAL || (result < 0 && sp_import_error_message(NULL, 0) <= 0)) {
            __builtin_trap();
        }
    }
    return succeeded;
}

int32_t spoil(uint32_t seed) {
    sp_model_info model_info;
    sp_session_info info;
    state = seed | 1;
    sp_handle model = sp_model_open(""), session = sp_session_create(model, 200, 4), sampler = sp_sampler_create(NULL);
    if (sp_get_model_info(model, &model_info) || sp_get_session_info(session, &info)) {
        return -1;
    }
    int32_t token = 5;
    for (int i = 0; i < 150; i++) {
        if (sp_session_append(session, &token, 1, SP_LOGITS_LAST) < 0) {
            return -2;
        }
        uint32_t *kv = at((uint32_t)info.kv), *logits = at((uint32_t)info.logits);
        for (uint64_t k = 0; k < info.kv_bytes / 4; k += 1 + next() % 64) {
            kv[k] = next() % 3 ? next() : 0x7fc07e00; /* not a number, as f32 and as f16 */
        }
        for (uint32_t k = 0; k < info.vocab && i % 2; k++) {
            logits[k] = next();
        }
        token = sp_session_sample(session, sampler);
        if (token < 0 || (uint32_t)token >= model_info.vocab) {
            return -3;
        }
    }
    sp_session_destroy(session);
    sp_sampler_destroy(sampler);
    sp_model_close(model);
    return 0;
}

int32_t exhaust(void) {
    for (int round = 0; round < 3; round++) {
        sp_handle model = sp_model_open(""), all[4096];
        int32_t count = 0, status;
        while (count < 4096 && (status = sp_session_create(model, 4096, 16)) > 0) {
            all[count++] = status;
        }
        if (!count || (status != SP_NO_MEMORY && status != SP_LIMIT)) {
            return -1;
        }
        while (count < 4096 && (status = sp_sampler_create(NULL)) > 0) {
            all[count++] = status;
        }
        if (status != SP_LIMIT) {
            return -2;
        }
        while (count--) {
            if (sp_session_destroy(all[count]) && sp_sampler_destroy(all[count])) {
                return -3;
            }
        }
        sp_model_close(model);
    }
    return 0;
}

int32_t honest(void) {
    int32_t tokens[100];
    uint32_t hash = 2166136261u;
    for (int i = 0; i < 100; i++) {
        tokens[i] = i * 7 % 250;
    }
    sp_handle model = sp_model_open(""), session = sp_session_create(model, 128, 1);
    if (sp_session_append(session, tokens, 100, SP_LOGITS_LAST) < 0) {
        return 0;
    }
    sp_session_info info;
    sp_get_session_info(session, &info);
    const uint8_t *bytes = at((uint32_t)info.logits);
    for (uint32_t i = 0; i < info.vocab * 4; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    sp_session_destroy(session);
    sp_model_close(model);
    return (int32_t)hash;
}

int32_t made(void) {
    return sp_session_create(sp_model_open(""), 64, 1);
}

int32_t use(int32_t handle) {
    return sp_session_length(handle);
}

static int32_t deep(int32_t n) {
    volatile char frame[256];
    frame[n & 255] = (char)n;
    return n < 0 ? 0 : deep(n + 1) + frame[0];
}

int32_t wild(int32_t kind) {
    volatile uint32_t last = UINT32_MAX - 16;
    volatile uint32_t index = 12345;
    switch (kind) {
    case 0: return *(volatile int32_t *)at(last);
    case 1: return *(volatile int32_t *)at(last) = 1;
    case 2: return ((int32_t(*)(void))(uintptr_t)index)();
    default: return deep(0);
    }
}

int main(void) {
    return 0;
}
