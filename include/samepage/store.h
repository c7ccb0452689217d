/* samepage/store.h - KV blocks that many sessions share: computed once, held once, found again.
 *
 * A full block of 64 tokens never changes, so it has a name: the BLAKE2b-256 hash (RFC 7693) of the model's
 * fingerprint, the KV format, the name of the block before it and its own tokens. A store keeps blocks under their
 * names, with a checksum of their bytes beside it. A session that is attached looks for the longest chain of blocks
 * that its tokens name before it computes anything, and gives the store every block that it fills. Where the device's
 * link accepts mappings of files the bytes are mapped copy-on-write, so that a thousand sessions hold one copy;
 * elsewhere they are copied, and the report says so.
 *
 * Tokens are the truth and blocks are a cache: whatever is missing, evicted, damaged or of another format is computed
 * again, and nothing but time is lost.
 *
 * Scope. Everything in one store is visible to everything attached to it: how long a prefix takes tells whether it was
 * seen before, and a guest that writes over its own KV gives the others what it wrote. A store is one owner's;
 * strangers get one each.
 *
 * Folder. Blocks lie in pack files (docs/store-format.md), mode 0600, that only the process that made one adds to. Any
 * number of processes may have the same folder open. A block can be seen once it is whole; after a crash or a power cut
 * what was torn is found by its checksum, which is looked at when a block is first used by a process.
 *
 * Threads: a store may be used by any number of threads at once.
 */
#ifndef SAMEPAGE_STORE_H
#define SAMEPAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/guest.h"
#include "samepage/session.h"
#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_store sp_store;

/* Told in one line what is not as hoped and what was done about it: "block 3 of 9 is damaged: computed again". The text
 * is good during the call. Called on the thread that calls the library, with no lock held. */
typedef void (*sp_notice)(void *env, const char *text);

#define SP_STORE_KEY_BYTES 32

typedef struct sp_store_options {
    const char *folder; /* made if it is not there; NULL: in memory only, gone with the store */
    uint64_t bytes_max; /* of blocks: the least recently used go first, pinned ones never; 0: 16 GiB in a folder, 1 GiB
                            in memory */
    const uint8_t *key; /* [SP_STORE_KEY_BYTES] encrypts what lies in the folder; NULL: not encrypted. Copied. */
    bool unverified;    /* true: checksums are looked at by sp_store_verify only */
    sp_notice notice;   /* may be NULL */
    void *notice_env;
} sp_store_options;

/* SP_IO (the folder), SP_UNSUPPORTED (a folder of a newer format), SP_INVALID (the folder's blocks are encrypted with
 * another key, or with one where none is given). */
SP_EXPORT sp_status sp_store_open(const sp_store_options *options, sp_store **store, sp_error *error);

/* Sessions and guests that are attached must be gone; what they have mapped stays valid for others. NULL is allowed. */
SP_EXPORT void sp_store_close(sp_store *store);

/* From now on the session finds and gives blocks here. Tokens that it has already are not looked for; their full blocks
 * are taken in with the next append. Attaching again to the same store does nothing; SP_INVALID: to another. */
SP_EXPORT sp_status sp_store_attach(sp_store *store, sp_session *session, sp_error *error);

/* The same for all sessions that a guest has and will have. */
SP_EXPORT sp_status sp_store_attach_guest(sp_store *store, sp_guest *guest, sp_error *error);

/* Takes in every full block of a session that the store lacks, now; *block_count is how many it holds of it then. */
SP_EXPORT sp_status sp_store_take(sp_store *store, sp_session *session, uint32_t *block_count, sp_error *error);

/* Keeps in the folder what a session has behind its full blocks: the rows of the block that is not full and up to 4
 * rows of logits, so that a restore of the same tokens computes nothing. Not synced. The one that the session left
 * there before stays until sp_store_settle_tail, which removes it unless `keep` says that somebody still wants it. A
 * store in memory keeps none. SP_IO, SP_NO_MEMORY: there is none then, and nothing else is lost. */
SP_EXPORT sp_status sp_store_take_tail(sp_store *store, sp_session *session, sp_error *error);
SP_EXPORT void sp_store_settle_tail(sp_store *store, sp_session *session, bool keep);

/* The same for all sessions of a guest that is IDLE. */
SP_EXPORT sp_status sp_store_take_tails(sp_store *store, sp_guest *guest, sp_error *error);
SP_EXPORT void sp_store_settle_tails(sp_store *store, sp_guest *guest, bool keep);

/* Blocks of a session's chain are kept by eviction (on) or not (off), for this process and those that come. */
SP_EXPORT sp_status sp_store_pin(sp_store *store, const sp_session *session, bool on, sp_error *error);

typedef struct sp_store_stats {
    uint64_t blocks, bytes;       /* at present; bytes as they lie, padding of packs left out */
    uint64_t packs, pinned_packs; /* files, or their like in memory */
    uint64_t bytes_max;
    uint64_t hits, misses;  /* blocks looked for since open */
    uint64_t mapped_blocks; /* given by mapping since open */
    uint64_t copied_blocks; /* given by copying */
    uint64_t taken_blocks;  /* taken in */
    uint64_t evicted_blocks, damaged_blocks;
    uint64_t
        tail_bytes; /* of tails in the folder, as far as this process knows; they may have an eighth of bytes_max */
    uint64_t damaged_tails; /* since open */
} sp_store_stats;
SP_EXPORT void sp_store_get_stats(sp_store *store, sp_store_stats *stats);

/* Evicts until at most bytes_max bytes are held (0: the store's own limit), removes what other processes left behind
 * half made, and forgets what is gone from the folder. evicted may be NULL. */
SP_EXPORT sp_status sp_store_gc(sp_store *store, uint64_t bytes_max, uint64_t *evicted_blocks, sp_error *error);

/* Reads every block and tail and compares it with its checksum; damaged ones are dropped, told to the notice, and
 * counted. SP_OK even then: a cache with a hole in it is a cache. */
SP_EXPORT sp_status sp_store_verify(sp_store *store, uint64_t *damaged_blocks, sp_error *error);

/* Returns when all that was taken in so far would survive a power cut. SP_IO. */
SP_EXPORT sp_status sp_store_sync(sp_store *store, sp_error *error);

#ifdef __cplusplus
}
#endif
#endif
