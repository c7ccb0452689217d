/* samepage/snapshot.h - all of a guest at a point between two calls: saved, restored, forked, compared.
 *
 *     guest ──capture──> snapshot ──write──> file ──open──> snapshot ──restore──> guest
 *       └─ tracker ──delta──> snapshot (of what changed)          └─ apply(delta) ──┘
 *
 * A snapshot holds the guest's memory without its zero pages, globals, tables, what the host reserved in its memory,
 * its handles (models by name, sessions with tokens and logits, samplers with their random state), its arguments and
 * environment, and who it is: the module's hash, the models' fingerprints, the KV format. KV blocks are named in it and
 * lie in a store; a file that is to travel has their bytes inside. The format: docs/snapshot-format.md.
 *
 * What it does not hold: the Wasm stack (there is none between two calls), open files other than the folders a guest is
 * given (a restored guest finds their descriptors closed), time, and what is in flight outside.
 *
 * Tokens are the truth. A restored session has the tokens that it had; its blocks are mapped, copied or computed again,
 * whichever is fastest and possible, and the last row of logits comes along, so that the next token needs no pass over
 * the weights.
 *
 * A snapshot is immutable. Files are read as hostile: all of a file is checked before anything of it is used, and a
 * failure leaves nothing behind. A file that is open must not be changed by others: replace it by renaming.
 *
 * Threads: a snapshot may be read by any number of threads; capture, restore, fork and trackers belong to the thread of
 * the guest's engine.
 */
#ifndef SAMEPAGE_SNAPSHOT_H
#define SAMEPAGE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/guest.h"
#include "samepage/model.h"
#include "samepage/status.h"
#include "samepage/store.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_snapshot sp_snapshot;
typedef struct sp_tracker sp_tracker;

#define SP_SNAPSHOT_ID_BYTES 16

/* ---- capture and restore ---- */

typedef struct sp_capture_options {
    sp_store *store;     /* takes in the full blocks; NULL: they are copied into the snapshot, as with `inside` */
    bool inside;         /* the blocks' bytes go into the snapshot: for files that travel */
    bool without_cache;  /* neither blocks, tails nor logits: a restore computes them from the tokens */
    bool without_module; /* the module's bytes stay out; a restore gets them otherwise */
    const void *extra;   /* the caller's own, carried as it is: at most 16 MiB */
    size_t extra_bytes;
} sp_capture_options;

/* The guest must be IDLE (SP_BUSY, SP_INVALID otherwise) and its module durable (SP_UNSUPPORTED). It is not changed.
 * options may be NULL. SP_NO_MEMORY, SP_LIMIT. */
SP_EXPORT sp_status sp_guest_capture(sp_guest *guest, const sp_capture_options *options, sp_snapshot **snapshot,
                                     sp_error *error);

/* Guests that were restored from it may go on: what they have mapped stays valid. NULL is allowed. */
SP_EXPORT void sp_snapshot_close(sp_snapshot *snapshot);

/* How the tokens of all sessions were got back, and what it took. */
typedef struct sp_restore_report {
    uint32_t sessions;
    uint32_t mapped_tokens, copied_tokens, computed_tokens;
    bool logits_are_restored; /* of every session that had any; false: some were computed */
    uint64_t guest_ns;        /* instance, memory, globals, tables, handles */
    uint64_t blocks_ns;       /* finding, checking, mapping and copying blocks */
    uint64_t compute_ns;
} sp_restore_report;

typedef struct sp_restore_options {
    sp_store *store; /* where blocks are found; the guest is attached to it; NULL: those inside of the snapshot only */
    bool recompute;  /* a session of another model goes on with its tokens, computed again, if its vocabulary is large
                         enough for them; else that is SP_UNSUPPORTED. Another quantisation of the same model is no
                         other model: it is computed again, with a notice. */
    bool foreign; /* the snapshot came from somebody else: what is inside of it serves this guest only, and neither it
                         nor what is computed on top of it goes into the store. Remembered in later snapshots. */
    sp_notice notice; /* NULL: the store's, if there is one */
    void *notice_env;
    sp_restore_report *report; /* may be NULL */
} sp_restore_options;

/* Makes a guest of the module that is what the captured one was, IDLE. guest_options as for sp_guest_create, with
 * models under the names that the snapshot has (sp_snapshot_get_model); arguments and environment are the snapshot's if
 * none are given, fuel is what was left unless it is 0, deadlines and limits are the caller's. restore_options may be
 * NULL. Handles are the same numbers. Works on any device: blocks have one layout on all. SP_INVALID: the module is
 * another, or the snapshot is a delta. SP_NOT_FOUND: no model of that name is given. SP_UNSUPPORTED: a model is another
 * (see recompute), or larger than its sessions' memory allows. SP_NO_MEMORY, SP_LIMIT, SP_DEVICE_LOST. */
SP_EXPORT sp_status sp_guest_restore(const sp_snapshot *snapshot, sp_module *module,
                                     const sp_guest_options *guest_options, const sp_restore_options *restore_options,
                                     sp_guest **guest, sp_error *error);

/* A second guest that goes on from where the first is, on the same device with the same models. Give a store for full
 * blocks to be shared by mapping. The first fork of a guest that has run since is copied otherwise, which is fastest;
 * from the second one on forks share an image of it copy-on-write, which the guest keeps until it runs again.
 * guest_options: limits, streams and folders; its device and models are ignored. May be NULL. */
SP_EXPORT sp_status sp_guest_fork(sp_guest *guest, sp_store *store, const sp_guest_options *guest_options,
                                  sp_guest **fork, sp_error *error);

/* ---- files and bytes ---- */

typedef struct sp_write_options {
    bool sync;          /* on disk when it returns: the file and its folder */
    const uint8_t *key; /* [SP_STORE_KEY_BYTES]: encrypts the file; NULL: not encrypted */
} sp_write_options;

/* To a temporary name in the same folder, mode 0600, then renamed: the old file or the new one. options may be NULL. */
SP_EXPORT sp_status sp_snapshot_write(const sp_snapshot *snapshot, const char *path, const sp_write_options *options,
                                      sp_error *error);

/* Reads and checks all of a file. key: NULL if it is not encrypted. SP_NOT_FOUND, SP_IO, SP_BAD_FILE (names the section
 * and what is wrong), SP_UNSUPPORTED (a newer version), SP_INVALID (encrypted, and no key or the wrong one),
 * SP_LIMIT. */
SP_EXPORT sp_status sp_snapshot_open(const char *path, const uint8_t *key, sp_snapshot **snapshot, sp_error *error);

/* The same of bytes, which are copied. name is for messages. */
SP_EXPORT sp_status sp_snapshot_open_bytes(const void *bytes, size_t byte_count, const char *name,
                                           sp_snapshot **snapshot, sp_error *error);

/* The snapshot as a file has it, not encrypted; borrowed until it is closed. For keeping deltas in a database. */
SP_EXPORT const void *sp_snapshot_bytes(const sp_snapshot *snapshot, size_t *byte_count);

/* ---- what changed ---- */

typedef enum sp_tracking {
    SP_TRACK_AUTO = 0,   /* the best that there is */
    SP_TRACK_FAULTS,     /* the kernel's own record of written pages (userfaultfd and PAGEMAP_SCAN, Linux 6.7) */
    SP_TRACK_HASHES,     /* a hash of every page, compared: works everywhere, and costs reading all of memory */
    SP_TRACK_PROTECTION, /* pages are read-only until their first write, which a signal handler notes: any POSIX system,
                            for guests whose modules import neither fd_read nor fd_pread */
} sp_tracking;

typedef struct sp_tracker_options {
    sp_tracking tracking;
} sp_tracker_options;

/* Begins to record what the guest changes. base is its state right now: just captured of it, or what it was restored
 * from. The tracker must be destroyed before the guest; one a guest. SP_UNSUPPORTED: the way asked for is not there. */
SP_EXPORT sp_status sp_tracker_create(sp_guest *guest, const sp_snapshot *base, const sp_tracker_options *options,
                                      sp_tracker **tracker, sp_error *error);
SP_EXPORT void sp_tracker_destroy(sp_tracker *tracker);
SP_EXPORT sp_tracking sp_tracker_get_tracking(const sp_tracker *tracker); /* what AUTO became */

/* A snapshot of what changed since base, or since the last delta that was accepted: whole pages, globals, tables,
 * handles, and of each session the tokens behind those that were there before. It has neither blocks nor logits
 * (options->inside is not looked at; a store takes in full blocks as in a capture). Until it is accepted the next one
 * has its changes, too: so a commit that failed loses nothing. */
SP_EXPORT sp_status sp_tracker_delta(sp_tracker *tracker, const sp_capture_options *options, sp_snapshot **delta,
                                     sp_error *error);

/* The latest delta is safe: later ones build on it. */
SP_EXPORT void sp_tracker_accept(sp_tracker *tracker);

/* base and a delta made on top of it, as one snapshot; both may be closed then. SP_INVALID: the delta is of another
 * base, or is none. The extra bytes are the delta's. Apply a series one after the other. */
SP_EXPORT sp_status sp_snapshot_apply(const sp_snapshot *base, const sp_snapshot *delta, sp_snapshot **result,
                                      sp_error *error);

/* ---- looking inside ---- */

typedef struct sp_snapshot_info {
    uint32_t version;
    bool is_delta;
    uint8_t id[SP_SNAPSHOT_ID_BYTES];     /* of the state, the same wherever the snapshot lies */
    uint8_t parent[SP_SNAPSHOT_ID_BYTES]; /* of a delta: what it is applied to */
    uint8_t module_hash[SP_MODULE_HASH_BYTES];
    char module_name[96];
    char made_by[32];      /* version of samepage */
    uint64_t byte_count;   /* of the file, not encrypted */
    uint64_t memory_bytes; /* of the guest */
    uint64_t page_bytes;   /* of its memory, in the snapshot */
    uint32_t globals, tables, models, sessions, samplers;
    bool has_module, has_blocks; /* inside */
    uint64_t extra_bytes;
} sp_snapshot_info;
SP_EXPORT void sp_snapshot_get_info(const sp_snapshot *snapshot, sp_snapshot_info *info);

/* A model that a handle or session names; NULL past the end. Strings and fingerprint are borrowed. */
SP_EXPORT const char *sp_snapshot_get_model(const sp_snapshot *snapshot, uint32_t index, sp_fingerprint *fingerprint);

typedef struct sp_snapshot_session {
    int32_t handle;
    const char *model;     /* its name */
    const int32_t *tokens; /* borrowed; of a delta: those that are new */
    uint32_t token_first;  /* position of tokens[0]: 0 but in a delta */
    uint32_t token_count;  /* from token_first on */
    uint32_t context_max, logits_rows;
    sp_kv_type kv_type;
    uint32_t block_count;                  /* full ones that are named */
    bool has_blocks, has_tail, has_logits; /* inside */
} sp_snapshot_session;
SP_EXPORT bool sp_snapshot_get_session(const sp_snapshot *snapshot, uint32_t index, sp_snapshot_session *session);

/* Borrowed; NULL and 0 if there are none. */
SP_EXPORT const void *sp_snapshot_module(const sp_snapshot *snapshot, size_t *byte_count);
SP_EXPORT const void *sp_snapshot_extra(const sp_snapshot *snapshot, size_t *byte_count);

/* Calls line for each thing that differs, in words; *same if nothing does. SP_INVALID: one of them is a delta. */
SP_EXPORT sp_status sp_snapshot_diff(const sp_snapshot *a, const sp_snapshot *b, sp_notice line, void *env, bool *same,
                                     sp_error *error);

#ifdef __cplusplus
}
#endif
#endif
