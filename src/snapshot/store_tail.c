/* snapshot/store_tail.c - what a session has behind its full blocks, kept in a store's folder: the rows of the block
 * that is not full, and the latest logits. docs/store-format.md in C.
 *
 *     header | rows, head by head | logits
 *
 * A tail's name is made of what a block's is, and of tokens: who has the same tokens finds it. It is written beside a
 * commit, which need not carry it then, and not synced: a process that dies leaves it, a power cut may not, and then
 * its tokens are computed again. One that was replaced goes, unless whoever asked for the new one says that it is still
 * wanted; what is left over goes when there is too much, the oldest first. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium/crypto_aead_xchacha20poly1305.h>
#include <sodium/randombytes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/file.h"
#include "snapshot/store.h"

#define MAGIC          "\211SPT\r\n\032\n"
#define VERSION        1u
#define SEALED         1u
#define LOGITS_MAX     4u /* rows: more are what whoever looks at a whole prompt's wants, and can have again */
#define FILE_COUNT_MAX ((size_t)1 << 20)
#define ROW_BYTES_MAX  ((uint64_t)64 << 20) /* of a token, so that a damaged header asks for no mad amount of memory */
#define VOCAB_MAX      ((uint64_t)1 << 24)

typedef struct tail_header {
    char magic[8];
    uint32_t version, flags;
    uint32_t rows, logits_rows;
    uint64_t row_bytes, vocab, kv_format;
    spi_digest name;
    uint8_t nonce[24];
    uint8_t check[16]; /* XXH3-128 of all behind the header, or the tag of its encryption */
    spi_hash hash;     /* of all before it */
} tail_header;
_Static_assert(sizeof(tail_header) == 136, "no holes");

static const spi_digest no_parent;

static spi_hash header_hash(const tail_header *header) {
    return spi_hash_bytes(header, offsetof(tail_header, hash), 0x7461696cu);
}

static void path_of(const sp_store *store, const spi_digest *name, char *path, size_t capacity) {
    int length = snprintf(path, capacity, "%s/tails/", store->folder);
    for (int i = 0; i < 16; i++) {
        length += snprintf(path + length, capacity - (size_t)length, "%02x", name->bytes[i]);
    }
}

static uint64_t payload_bytes(const tail_header *header) {
    return header->rows * header->row_bytes + (uint64_t)header->logits_rows * header->vocab * sizeof(float);
}

/* What a tail of this session would be. False: it has none. */
static bool describe(const sp_store *store, const spi_attached *attached, const sp_session *session,
                     uint32_t logits_rows, tail_header *header) {
    uint32_t full = session->token_count / SPI_BLOCK_TOKENS;
    *header = (tail_header){
        .version = VERSION,
        .flags = store->has_key ? SEALED : 0,
        .rows = session->token_count % SPI_BLOCK_TOKENS,
        .logits_rows = logits_rows <= LOGITS_MAX ? logits_rows : 0,
        .vocab = session->vocab,
        .kv_format = spi_kv_format_of(session),
    };
    spi_tail tail = {.session = session};
    header->row_bytes = spi_kv_row_bytes(&tail);
    memcpy(header->magic, MAGIC, sizeof header->magic);
    if (session->is_foreign || attached->count < full || !(header->rows + header->logits_rows)) {
        return false;
    }
    spi_store_name(store, session, full ? &attached->names[full - 1] : &no_parent, full, header->rows, &header->name);
    return true;
}

static uint8_t *want_scratch(sp_store *store, uint64_t bytes) {
    if (store->scratch_bytes < bytes) {
        spi_free(store->scratch);
        store->scratch = spi_alloc((size_t)bytes, 1);
        store->scratch_bytes = store->scratch ? bytes : 0;
    }
    return store->scratch;
}

/* Between a session and rows that lie head by head, without what a block has room for behind them. */
static void move_rows(const sp_session *session, uint32_t rows, uint8_t *packed, bool is_taken) {
    spi_tail tail = {.session = session, .block = session->token_count / SPI_BLOCK_TOKENS, .rows = rows};
    spi_part part;
    for (uint32_t i = 0; (part = spi_kv_tail_part(&tail, i)).from; i += 2) {
        uint8_t *at = (uint8_t *)(uintptr_t)part.from;
        memcpy(is_taken ? packed : at, is_taken ? at : packed, part.bytes);
        packed += part.bytes;
    }
}

static void count_removed(sp_store *store, uint64_t bytes) {
    store->tail_bytes -= bytes < store->tail_bytes ? bytes : store->tail_bytes;
}

static void remove_tail(sp_store *store, const spi_digest *name) {
    char path[4200];
    struct stat info;
    path_of(store, name, path, sizeof path);
    if (!stat(path, &info) && !unlink(path)) {
        count_removed(store, (uint64_t)info.st_size);
    }
}

/* ---- what there is ---- */

typedef struct old_tail {
    int64_t changed_ns;
    uint64_t bytes;
    char name[40];
} old_tail;

static int by_age(const void *a, const void *b) {
    const old_tail *x = a, *y = b;
    return (x->changed_ns > y->changed_ns) - (x->changed_ns < y->changed_ns);
}

/* Removes the oldest until so many bytes are left; UINT64_MAX: only counts. */
void spi_store_trim_tails(sp_store *store, uint64_t bytes_max) {
    char path[4200];
    old_tail *list = NULL;
    size_t count = 0, capacity = 0;
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%s/tails", store->folder ? store->folder : "");
    DIR *folder = store->folder ? opendir(path) : NULL;
    for (const struct dirent *item; folder && (item = readdir(folder));) {
        struct stat info;
        if (strlen(item->d_name) != 32 || fstatat(dirfd(folder), item->d_name, &info, AT_SYMLINK_NOFOLLOW)) {
            continue;
        }
        bytes += (uint64_t)info.st_size;
        if (count < FILE_COUNT_MAX && SPI_RESERVE(list, count, capacity)) {
            list[count] = (old_tail){spi_file_changed_ns(&info), (uint64_t)info.st_size, ""};
            memcpy(list[count++].name, item->d_name, 33);
        }
    }
    store->tail_bytes = bytes;
    if (folder && bytes > bytes_max && list) {
        qsort(list, count, sizeof *list, by_age);
        for (size_t i = 0; i < count && store->tail_bytes > bytes_max; i++) {
            if (!unlinkat(dirfd(folder), list[i].name, 0)) {
                count_removed(store, list[i].bytes);
            }
        }
    }
    if (folder) {
        closedir(folder);
    }
    spi_free(list);
}

/* ---- giving ---- */

static bool write_all(int file, const void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t put = spi_file_fault(SPI_FILE_WRITE) ? -1 : write(file, (const char *)bytes + done, count - done);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

/* What is behind a header, ready to be written; the header is complete then. NULL: no memory. */
static uint8_t *fill(sp_store *store, const sp_session *session, tail_header *header) {
    uint64_t rows_bytes = header->rows * header->row_bytes, bytes = payload_bytes(header);
    uint8_t *packed = want_scratch(store, bytes);
    if (!packed) {
        return NULL;
    }
    if (header->rows) {
        move_rows(session, header->rows, packed, true);
    }
    if (header->logits_rows) {
        memcpy(packed + rows_bytes, sp_session_logits(session, 0), (size_t)(bytes - rows_bytes));
    }
    if (store->has_key) {
        randombytes_buf(header->nonce, sizeof header->nonce);
        crypto_aead_xchacha20poly1305_ietf_encrypt_detached(packed, header->check, NULL, packed, bytes,
                                                            header->name.bytes, SPI_DIGEST_BYTES, NULL, header->nonce,
                                                            store->key);
    } else {
        spi_hash hash = spi_hash_bytes(packed, (size_t)bytes, 0);
        memcpy(header->check, &hash, sizeof hash);
    }
    header->hash = header_hash(header);
    return packed;
}

/* Opens a new file for a tail; -1 with EEXIST: there is one as long as it must be. A shorter one was left by a process
 * that was killed while it wrote, or another writes it now: that one goes on with a file that has no name any more. */
static int make_file(const char *path, uint64_t bytes) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    struct stat info;
    int file = open(path, flags, 0600);
    if (file < 0 && errno == EEXIST && !lstat(path, &info) && (uint64_t)info.st_size != bytes && !unlink(path)) {
        return open(path, flags, 0600);
    }
    return file;
}

/* One that is there and whole has the same in it, or is damaged and will be found out. */
static sp_status put_tail(sp_store *store, const sp_session *session, tail_header *header, sp_error *error) {
    char path[4200];
    path_of(store, &header->name, path, sizeof path);
    int file = make_file(path, sizeof *header + payload_bytes(header));
    if (file < 0 && errno == EEXIST) {
        return SP_OK;
    }
    if (file < 0) {
        return spi_fail(error, SP_IO, "cannot make %s: %s", path, strerror(errno));
    }
    const uint8_t *packed = fill(store, session, header);
    bool is_whole =
        packed && write_all(file, header, sizeof *header) && write_all(file, packed, (size_t)payload_bytes(header));
    int reason = errno;
    close(file);
    if (!is_whole) {
        unlink(path);
        return packed ? spi_fail(error, SP_IO, "cannot write %s: %s", path, strerror(reason))
                      : spi_fail(error, SP_NO_MEMORY, "no memory for a session's last tokens");
    }
    store->tail_bytes += sizeof *header + payload_bytes(header);
    return SP_OK;
}

sp_status sp_store_take_tail(sp_store *store, sp_session *session, sp_error *error) {
    tail_header header;
    sp_error local = {0};
    error = error ? error : &local;
    sp_status status = sp_store_attach(store, session, error);
    spi_attached *attached = session->cache_data;
    if (status || !store->folder) {
        return status;
    }
    if (!spi_store_want_names(attached, session, session->token_count / SPI_BLOCK_TOKENS)) {
        return spi_fail(error, SP_NO_MEMORY, "no memory for the names of a session's blocks");
    }
    bool has_one = describe(store, attached, session, session->logits_rows, &header);
    if (attached->has_tail && has_one && spi_digest_equal(&attached->tail, &header.name)) {
        return SP_OK;
    }
    spi_store_lock(store);
    status = has_one ? put_tail(store, session, &header, error) : SP_OK;
    if (store->tail_bytes > store->bytes_max / SPI_TAIL_SHARE) {
        spi_store_trim_tails(store, store->bytes_max / SPI_TAIL_SHARE / 4 * 3);
    }
    spi_store_unlock(store);
    if (attached->has_tail && !attached->has_old_tail) {
        attached->old_tail = attached->tail;
        attached->has_old_tail = true;
    }
    attached->tail = header.name;
    attached->has_tail = has_one && !status;
    return status;
}

void sp_store_settle_tail(sp_store *store, sp_session *session, bool keep) {
    spi_attached *attached = session->cache == &store->cache ? session->cache_data : NULL;
    if (attached && attached->has_old_tail) {
        if (!keep) {
            spi_store_lock(store);
            remove_tail(store, &attached->old_tail);
            spi_store_unlock(store);
        }
        attached->has_old_tail = false;
    }
}

sp_status sp_store_take_tails(sp_store *store, sp_guest *guest, sp_error *error) {
    sp_session *session;
    sp_status status = SP_OK;
    for (uint32_t slot = 0; !status && spi_guest_next_session(guest, &slot, &session);) {
        status = sp_store_take_tail(store, session, error);
    }
    return status;
}

void sp_store_settle_tails(sp_store *store, sp_guest *guest, bool keep) {
    sp_session *session;
    for (uint32_t slot = 0; spi_guest_next_session(guest, &slot, &session);) {
        sp_store_settle_tail(store, session, keep);
    }
}

/* ---- finding ---- */

static bool read_all(int file, void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t got = spi_file_fault(SPI_FILE_READ) ? -1 : read(file, (char *)bytes + done, count - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

/* A tail as it lies in a file, checked and decrypted: into the scratch. NULL: it is damaged. */
static const uint8_t *read_checked(sp_store *store, int file, tail_header *header) {
    if (!read_all(file, header, sizeof *header)) {
        return NULL;
    }
    spi_hash hash = header_hash(header);
    bool is_one = memcmp(header->magic, MAGIC, sizeof header->magic) == 0 && header->version == VERSION &&
                  memcmp(&hash, &header->hash, sizeof hash) == 0 && header->flags == (store->has_key ? SEALED : 0) &&
                  header->rows < SPI_BLOCK_TOKENS && header->logits_rows <= LOGITS_MAX &&
                  header->row_bytes <= ROW_BYTES_MAX && header->vocab <= VOCAB_MAX;
    size_t bytes = is_one ? (size_t)payload_bytes(header) : 0;
    struct stat info; /* no more memory than the file has bytes, whatever its header says */
    is_one = is_one && !fstat(file, &info) && (uint64_t)info.st_size == sizeof *header + bytes;
    uint8_t *packed = is_one ? want_scratch(store, bytes ? bytes : 1) : NULL;
    if (!packed || !read_all(file, packed, bytes)) {
        return NULL;
    }
    if (store->has_key) {
        return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(packed, NULL, packed, bytes, header->check,
                                                                   header->name.bytes, SPI_DIGEST_BYTES, header->nonce,
                                                                   store->key)
                   ? NULL
                   : packed;
    }
    hash = spi_hash_bytes(packed, bytes, 0);
    return memcmp(&hash, header->check, sizeof hash) == 0 ? packed : NULL;
}

/* One that is what is wanted; its logits may be as many, or none. */
static const uint8_t *read_tail(sp_store *store, int file, const tail_header *wanted, tail_header *header) {
    const uint8_t *packed = read_checked(store, file, header);
    bool fits = packed && header->rows == wanted->rows && header->row_bytes == wanted->row_bytes &&
                header->vocab == wanted->vocab && header->kv_format == wanted->kv_format &&
                spi_digest_equal(&header->name, &wanted->name);
    return fits ? packed : NULL;
}

uint64_t spi_store_verify_tails(sp_store *store) {
    char path[4200];
    uint64_t damaged = 0;
    snprintf(path, sizeof path, "%s/tails", store->folder ? store->folder : "");
    DIR *folder = store->folder ? opendir(path) : NULL;
    for (const struct dirent *item; folder && (item = readdir(folder));) {
        tail_header header;
        int file =
            strlen(item->d_name) == 32 ? openat(dirfd(folder), item->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
        if (file >= 0 && !read_checked(store, file, &header)) {
            spi_store_note(store, "tail %s is damaged and dropped", item->d_name);
            unlinkat(dirfd(folder), item->d_name, 0);
            store->stats.damaged_tails++;
            damaged++;
        }
        if (file >= 0) {
            close(file);
        }
    }
    if (folder) {
        closedir(folder);
    }
    return damaged;
}

static sp_status place_tail(sp_session *session, const tail_header *header, const uint8_t *packed, uint32_t logits_rows,
                            bool *has_logits, sp_error *error) {
    uint64_t rows_bytes = header->rows * header->row_bytes, block_bytes = spi_kv_block_bytes_of(session);
    uint64_t logits_bytes = (uint64_t)logits_rows * session->vocab * sizeof(float);
    sp_status status = SP_OK;
    if (header->rows) {
        move_rows(session, header->rows, (uint8_t *)(uintptr_t)packed, false);
        uint64_t offset = session->layout.kv_offset + session->token_count / SPI_BLOCK_TOKENS * block_bytes;
        status = spi_session_host_wrote(session, offset, block_bytes, error);
    }
    *has_logits = logits_rows && header->logits_rows == logits_rows && logits_rows <= session->logits_rows_max;
    if (*has_logits && !status) {
        memcpy(sp_region_base(session->region) + session->offset + session->layout.logits_offset, packed + rows_bytes,
               (size_t)logits_bytes);
        session->logits_rows = logits_rows;
        status = spi_session_host_wrote(session, session->layout.logits_offset, logits_bytes, error);
    }
    return status;
}

sp_status spi_store_find_tail(void *env, sp_session *session, uint32_t logits_rows, bool *has_rows, bool *has_logits,
                              sp_error *error) {
    sp_store *store = env;
    spi_attached *attached = session->cache_data;
    tail_header wanted, header;
    char path[4200];
    sp_status status = SP_OK;
    *has_rows = *has_logits = false;
    if (!store->folder || !spi_store_want_names(attached, session, session->token_count / SPI_BLOCK_TOKENS) ||
        !describe(store, attached, session, logits_rows, &wanted)) {
        return SP_OK;
    }
    path_of(store, &wanted.name, path, sizeof path);
    spi_store_lock(store);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file >= 0) {
        const uint8_t *packed = read_tail(store, file, &wanted, &header);
        if (packed) {
            status = place_tail(session, &header, packed, logits_rows, has_logits, error);
            *has_rows = true;
            attached->tail = wanted.name;
            attached->has_tail = true;
        } else {
            spi_store_note(store, "the last tokens of a session are damaged in the store: they are computed again");
            store->stats.damaged_tails++;
            remove_tail(store, &wanted.name);
        }
        close(file);
    }
    spi_store_unlock(store);
    return status;
}
