/* snapshot/file.c - snapshots in files: written whole or not at all, read as hostile, encrypted if a key is given.
 *
 * An encrypted file is a magic, a header of libsodium's secretstream (XChaCha20-Poly1305) and chunks of a mebibyte with
 * 17 bytes more each; the last is marked, so that a file that was cut is found out. It is decrypted into memory. */
#include <sodium/crypto_secretstream_xchacha20poly1305.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/file.h"
#include "os/vm.h"
#include "snapshot/snapshot.h"

#define SEALED_MAGIC   "\211SPX\r\n\032\n"
#define SEALED_HEADER  (8 + crypto_secretstream_xchacha20poly1305_HEADERBYTES)
#define CHUNK_BYTES    ((size_t)1 << 20)
#define CHUNK_MORE     ((size_t)crypto_secretstream_xchacha20poly1305_ABYTES)
#define FILE_BYTES_MAX ((size_t)1 << 44)

_Static_assert(SP_STORE_KEY_BYTES == crypto_secretstream_xchacha20poly1305_KEYBYTES, "one kind of key");

/* A writer of spi_file_write_parts: gives the next part of a file, sealed. */
typedef struct sealing {
    crypto_secretstream_xchacha20poly1305_state state;
    const uint8_t *data;
    size_t bytes, at;
    uint8_t *chunk;
    bool is_begun, is_done;
    const uint8_t *key;
} sealing;

static size_t next_sealed(void *env, const void **part) {
    sealing *all = env;
    *part = all->chunk;
    if (!all->is_begun) {
        all->is_begun = true;
        memcpy(all->chunk, SEALED_MAGIC, 8);
        crypto_secretstream_xchacha20poly1305_init_push(&all->state, all->chunk + 8, all->key);
        return SEALED_HEADER;
    }
    if (all->is_done) {
        return 0;
    }
    size_t left = all->bytes - all->at, take = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    all->is_done = left < CHUNK_BYTES;
    unsigned char tag = all->is_done ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0;
    crypto_secretstream_xchacha20poly1305_push(&all->state, all->chunk, NULL, all->data + all->at, take, NULL, 0, tag);
    all->at += take;
    return take + CHUNK_MORE;
}

typedef struct plain {
    const void *data;
    size_t bytes;
} plain;

static size_t next_plain(void *env, const void **part) {
    plain *all = env;
    size_t bytes = all->bytes;
    *part = all->data;
    all->bytes = 0;
    return bytes;
}

sp_status sp_snapshot_write(const sp_snapshot *snapshot, const char *path, const sp_write_options *options,
                            sp_error *error) {
    static const sp_write_options defaults;
    options = options ? options : &defaults;
    if (!options->key) {
        plain all = {snapshot->data, snapshot->bytes};
        return spi_file_write_parts(path, next_plain, &all, options->sync, error);
    }
    sealing all = {.data = snapshot->data, .bytes = snapshot->bytes, .key = options->key};
    all.chunk = spi_alloc(CHUNK_BYTES + CHUNK_MORE, 1);
    if (!all.chunk) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to encrypt %s", path);
    }
    sp_status status = spi_file_write_parts(path, next_sealed, &all, options->sync, error);
    spi_free(all.chunk);
    return status;
}

static sp_status unseal(const uint8_t *sealed, size_t sealed_count, const char *name, const uint8_t *key, uint8_t *to,
                        size_t bytes, sp_error *error) {
    crypto_secretstream_xchacha20poly1305_state state;
    size_t at = SEALED_HEADER, done = 0;
    bool is_last = false;
    if (crypto_secretstream_xchacha20poly1305_init_pull(&state, sealed + 8, key)) {
        return spi_fail(error, SP_BAD_FILE, "%s: the header of the encryption is damaged", name);
    }
    while (at < sealed_count && !is_last) {
        size_t left = sealed_count - at, take = left < CHUNK_BYTES + CHUNK_MORE ? left : CHUNK_BYTES + CHUNK_MORE;
        unsigned char tag = 0;
        if (take < CHUNK_MORE || take - CHUNK_MORE > bytes - done ||
            crypto_secretstream_xchacha20poly1305_pull(&state, to + done, NULL, &tag, sealed + at, take, NULL, 0)) {
            return spi_fail(error, done ? SP_BAD_FILE : SP_INVALID, "%s: %s", name,
                            done ? "a part of it is damaged" : "the key is another, or its first part is damaged");
        }
        done += take - CHUNK_MORE;
        at += take;
        is_last = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
    }
    return is_last && at == sealed_count && done == bytes
               ? SP_OK
               : spi_fail(error, SP_BAD_FILE, "%s: it is cut or was added to", name);
}

static sp_status open_sealed(const spi_file_map *map, const char *name, const uint8_t *key, sp_snapshot **snapshot,
                             sp_error *error) {
    size_t payload = map->bytes - (map->bytes < SEALED_HEADER ? map->bytes : SEALED_HEADER);
    size_t chunks = (payload + CHUNK_BYTES + CHUNK_MORE - 1) / (CHUNK_BYTES + CHUNK_MORE);
    if (payload < chunks * CHUNK_MORE || !chunks) {
        return spi_fail(error, SP_BAD_FILE, "%s: it is cut", name);
    }
    if (!key) {
        return spi_fail(error, SP_INVALID, "%s is encrypted: give the key", name);
    }
    size_t bytes = payload - chunks * CHUNK_MORE;
    uint8_t *data;
    int file;
    sp_status status = spi_image_create(bytes ? bytes : 1, true, &data, &file, error);
    if (status) {
        return status;
    }
    status = unseal(map->data, map->bytes, name, key, data, bytes, error);
    if (status) {
        spi_image_free(data, bytes ? bytes : 1, file);
        return status;
    }
    return spi_snapshot_take(data, bytes ? bytes : 1, file, name, true, snapshot, error);
}

sp_status sp_snapshot_open(const char *path, const uint8_t *key, sp_snapshot **snapshot, sp_error *error) {
    spi_file_map map;
    int file;
    *snapshot = NULL;
    sp_status status = spi_file_map_open_keep(path, &map, &file, error);
    if (status) {
        return status;
    }
    if (map.bytes >= 8 && memcmp(map.data, SEALED_MAGIC, 8) == 0) {
        status = open_sealed(&map, path, key, snapshot, error);
        spi_file_map_close(&map);
        spi_vm_close(file);
        return status;
    }
    if (!map.bytes || map.bytes > FILE_BYTES_MAX) {
        spi_file_map_close(&map);
        spi_vm_close(file);
        return spi_fail(error, SP_BAD_FILE, "%s is not a snapshot: it has %zu bytes", path, map.bytes);
    }
    return spi_snapshot_take(map.data, map.bytes, file, path, true, snapshot, error);
}

sp_status sp_snapshot_open_bytes(const void *bytes, size_t byte_count, const char *name, sp_snapshot **snapshot,
                                 sp_error *error) {
    uint8_t *data;
    int file;
    *snapshot = NULL;
    if (!byte_count) {
        return spi_fail(error, SP_BAD_FILE, "%s is empty", name);
    }
    sp_status status = spi_image_create(byte_count, byte_count > ((size_t)256 << 10), &data, &file, error);
    if (status) {
        return status;
    }
    memcpy(data, bytes, byte_count);
    return spi_snapshot_take(data, byte_count, file, name, true, snapshot, error);
}
