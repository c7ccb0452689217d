/* fuzz/fuzz_tail.c - any bytes as a tail file of a store: found by a session that has its tokens and full block, and
 * looked at by itself. What is not its own must not change the session but for the block that is not full and the
 * logits, and what was refused must be gone.
 *
 * The first byte of the input says what is made right before the file is read, so that what is behind checksums, names
 * and encryption is reached, too:
 *     1 the check of what is behind the header   2 the header's hash   4 its name   8 the store has a key
 *     and, times 16, how many rows of logits are wanted. */
#include <ftw.h>
#include <sodium/crypto_aead_xchacha20poly1305.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"
#include "samepage/samepage.h"
#include "session/session.h"
#include "snapshot/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOKENS  66u /* a block, and two rows */
#define CONTEXT 256u
#define HEADER  136u /* docs/store-format.md has its fields */
#define NAME    48u
#define NONCE   80u
#define CHECK   104u
#define HASH    120u

static const uint8_t key[SP_STORE_KEY_BYTES] = {7};

/* A store with and one without a key, each with a session of its own, which a tail can be found for. */
typedef struct place {
    char folder[64], path[160], other[160];
    sp_store *store;
    sp_session *session;
    spi_digest name;
    spi_hash before;
} place;

static place places[2];
static sp_device *device;
static sp_model *model;

static void need(sp_status status, const sp_error *error) {
    if (status) {
        fprintf(stderr, "%s\n", error->message);
        abort();
    }
}

/* All of the session's range but for what a tail may write. */
static spi_hash hash_of(const sp_session *session) {
    uint64_t block = spi_kv_block_bytes_of(session);
    const uint8_t *blocks = spi_session_block(session, 0);
    spi_hash full = spi_hash_bytes(blocks, (size_t)block, 0);
    spi_hash behind = spi_hash_bytes(blocks + 2 * block, (size_t)(CONTEXT / SPI_BLOCK_TOKENS - 2) * block, 1);
    spi_hash both[2] = {full, behind};
    return spi_hash_bytes(both, sizeof both, session->token_count);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static void clean(void) {
    for (int i = 0; i < 2; i++) {
        nftw(places[i].folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

static void open_place(place *at, bool has_key) {
    sp_error error = {0};
    const sp_session_options options = {.context_max = CONTEXT, .logits_rows_max = 4};
    int32_t tokens[TOKENS];
    snprintf(at->folder, sizeof at->folder, "%s/samepage-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(at->folder)) {
        abort();
    }
    const sp_store_options store = {.folder = at->folder, .key = has_key ? key : NULL};
    need(sp_store_open(&store, &at->store, &error), &error);
    need(sp_session_create(model, device, &options, &at->session, &error), &error);
    need(sp_store_attach(at->store, at->session, &error), &error);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (int32_t)(3 + i);
    }
    need(sp_session_append(at->session, tokens, TOKENS, SP_LOGITS_LAST, &error), &error);
    const spi_attached *attached = at->session->cache_data;
    spi_store_name(at->store, at->session, &attached->names[0], 1, TOKENS - SPI_BLOCK_TOKENS, &at->name);
    int length = snprintf(at->path, sizeof at->path, "%s/tails/", at->folder);
    snprintf(at->other, sizeof at->other, "%s/tails/%032x", at->folder, 1);
    for (int i = 0; i < 16; i++) {
        length += snprintf(at->path + length, sizeof at->path - (size_t)length, "%02x", at->name.bytes[i]);
    }
    at->before = hash_of(at->session);
}

static void open_all(void) {
    sp_error error = {0};
    const sp_device_options one = {.thread_count = 1, .isa = "reference"};
    need(sp_device_open("cpu", &one, &device, &error), &error);
    need(sp_model_open(SPI_FUZZ_SOURCE "/tests/golden/snapshot/tiny.gguf", &model, &error), &error);
    need(sp_model_load(model, device, NULL, NULL, &error), &error);
    open_place(&places[0], false);
    open_place(&places[1], true);
    atexit(clean);
}

static void make_right(const place *at, uint8_t what, uint8_t *file, size_t size) {
    if (size < HEADER) {
        return;
    }
    if (what & 4) {
        memcpy(file + NAME, at->name.bytes, sizeof at->name.bytes);
    }
    if (what & 1 && what & 8) {
        crypto_aead_xchacha20poly1305_ietf_encrypt_detached(file + HEADER, file + CHECK, NULL, file + HEADER,
                                                            size - HEADER, file + NAME, SPI_DIGEST_BYTES, NULL,
                                                            file + NONCE, key);
    } else if (what & 1) {
        spi_hash hash = spi_hash_bytes(file + HEADER, size - HEADER, 0);
        memcpy(file + CHECK, &hash, sizeof hash);
    }
    if (what & 2) {
        spi_hash hash = spi_hash_bytes(file, HASH, 0x7461696cu);
        memcpy(file + HASH, &hash, sizeof hash);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sp_error error = {0};
    bool has_rows, has_logits;
    if (!device) {
        open_all();
    }
    if (!size) {
        return 0;
    }
    uint8_t what = data[0];
    place *at = &places[what >> 3 & 1];
    uint8_t *file = malloc(size);
    memcpy(file, data + 1, --size);
    make_right(at, what, file, size);
    need(spi_file_write(at->path, file, size, false, &error), &error);
    need(spi_store_find_tail(at->store, at->session, what >> 4, &has_rows, &has_logits, &error), &error);
    spi_hash after = hash_of(at->session);
    if (memcmp(&after, &at->before, sizeof after) != 0 || (has_logits && !has_rows) ||
        has_rows != !access(at->path, F_OK)) {
        abort();
    }
    unlink(at->path);
    need(spi_file_write(at->other, file, size, false, &error), &error);
    if (spi_store_verify_tails(at->store) ? !access(at->other, F_OK) : access(at->other, F_OK)) {
        abort();
    }
    unlink(at->other);
    free(file);
    return 0;
}
