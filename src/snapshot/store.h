/* snapshot/store.h - the inside of a store.
 *
 *     store.c        a store's life, its index     store_session.c  what sessions find
 *     store_pack.c   its packs: scanning, evicting  store_place.c    blocks on their way into a session
 *     store_tail.c   what is behind full blocks     store_cost.c     whether that is worth it
 *     store_check.c  gc, verify, sync, pins      store_take.c   what sessions give
 *
 * One lock holds all of it; a block is read, hashed and written under it, since a session waits for that anyway, and
 * threads that help to write touch nothing but their pack. May
 * include: what snapshot.h may. */
#ifndef SPI_SNAPSHOT_STORE_H
#define SPI_SNAPSHOT_STORE_H

#include <pthread.h>

#include "snapshot/pack.h"
#include "snapshot/snapshot.h"

typedef struct spi_entry {
    spi_digest name;
    spi_pack *pack; /* NULL: free, or removed (then the name is not zeros) */
    uint32_t slot;
    bool is_verified; /* in this process */
} spi_entry;

#define SPI_COST_SIZES 12 /* of runs of tokens: 16 to 31, 32 to 63, ..., 32768 and more */

/* What computing costs on a device with a model. A token of a short run costs a card ten times what one of a long run
 * does. */
typedef struct spi_cost {
    const sp_device *device;
    const sp_model *model;
    double ns_per_token[SPI_COST_SIZES]; /* 0: not known */
} spi_cost;

#define SPI_COST_COUNT 8
#define SPI_TAIL_SHARE 8u /* tails may have an eighth of the store's bytes beside its blocks */

struct sp_store {
    pthread_mutex_t lock;
    char *folder; /* NULL: in memory */
    uint64_t bytes_max;
    bool has_key, unverified;
    uint8_t key[SP_STORE_KEY_BYTES], name_key[SP_STORE_KEY_BYTES];
    sp_notice notice;
    void *notice_env;
    spi_session_cache cache;
    spi_entry *entries; /* [entry_capacity], a power of two; open addressing by the name's first bytes */
    size_t entry_capacity, entry_count, entry_used; /* used: removed ones count */
    spi_pack *packs;
    uint32_t pack_count, open_files;
    int64_t scanned_ns, folder_ns; /* when the folder was looked at last, and its own time then */
    spi_cost costs[SPI_COST_COUNT];
    uint32_t cost_next;
    double read_ns_per_byte; /* of blocks that were looked at for the first time; 0: not known */
    double copy_ns_per_byte; /* of blocks that were copied, since a device takes no files' pages; 0: not known */
    uint64_t tail_bytes;     /* in the folder, as far as this process knows */
    uint8_t *scratch;        /* a tail on its way */
    uint64_t scratch_bytes;
    sp_store_stats stats;
    char told[256]; /* a notice, given when the lock is not held any more */
};

/* What a store keeps of a session that is attached: the names of its full blocks, and of its tails: the one that lies
 * in the folder, and the one that it took the place of. */
typedef struct spi_attached {
    sp_store *store;
    spi_digest *names; /* [capacity] */
    uint32_t count, capacity;
    spi_digest tail, old_tail;
    bool has_tail, has_old_tail;
} spi_attached;

/* store.c */
spi_entry *spi_store_find(sp_store *store, const spi_digest *name);
bool spi_store_insert(sp_store *store, const spi_digest *name, spi_pack *pack, uint32_t slot, bool is_verified);
void spi_store_forget_pack(sp_store *store, const spi_pack *pack);
void spi_store_lock(sp_store *store);
void spi_store_unlock(sp_store *store); /* and gives the notice */
__attribute__((format(printf, 2, 3))) void spi_store_note(sp_store *store, const char *format, ...);

/* store_pack.c */
sp_status spi_store_scan(sp_store *store, bool always, sp_error *error);
sp_status spi_store_pack_for(sp_store *store, const spi_pack_header *like, const spi_digest *parent, spi_pack **pack,
                             sp_error *error);
/* Another pack of this process's with room, that is none of those; a new one as long as there are not too many. NULL:
 * none. */
spi_pack *spi_store_spare_pack(sp_store *store, const spi_pack_header *like, spi_pack *const *others, uint32_t count);
void spi_store_drop_pack(sp_store *store, spi_pack *pack, bool remove);
uint64_t spi_store_evict(sp_store *store, uint64_t bytes_max);
sp_status spi_store_use(sp_store *store, spi_pack *pack); /* opens its file if need be, and notes the use */
void spi_store_pin_path(const sp_store *store, const spi_pack *pack, char *path, size_t capacity);

/* store_cost.c: times in ns, of which the next ones are guessed */
void spi_store_learn_compute(sp_store *store, const sp_session *session, uint32_t token_count, int64_t ns);
void spi_store_learn_read(sp_store *store, bool is_copied, uint64_t bytes, int64_t ns);
/* An upper bound, in ns, or 0: not known. */
double spi_store_guess_compute(sp_store *store, const sp_session *session, uint32_t token_count);
bool spi_store_should_compute(sp_store *store, const sp_session *session, uint32_t run, uint32_t unread);

/* store_place.c: blocks first .. first + count, which are ready, are put into the session and the device is told; *good
 * is how many of them, from the first on, are whole. Where blocks are mapped they must lie one behind the other in a
 * pack. */
sp_status spi_store_place(sp_store *store, spi_attached *attached, sp_session *session, uint32_t first, uint32_t count,
                          uint32_t *good, sp_error *error);

/* store_take.c: all full blocks that the store lacks, a long run of them in so many packs at a time; *held is how many
 * it has then, from the first on. */
#define SPI_STRIPES_MAX 4u /* with eight, writing is no faster */
sp_status spi_store_take_blocks(sp_store *store, spi_attached *attached, const sp_session *session,
                                uint32_t stripes_max, uint32_t *held, sp_error *error);

/* store_session.c */
void spi_store_drop_damaged(sp_store *store, spi_entry *entry);
void spi_store_set_cache(sp_store *store);
sp_status spi_store_read(sp_store *store, spi_entry *entry, uint8_t *to, sp_error *error); /* checked, decrypted */
/* Of so many tokens from a block's first on, behind the block that is the parent. */
void spi_store_name(const sp_store *store, const sp_session *session, const spi_digest *parent, uint32_t block,
                    uint32_t token_count, spi_digest *name);
bool spi_store_want_names(spi_attached *attached, const sp_session *session, uint32_t count); /* of the first blocks */
const spi_digest *spi_store_names(const sp_session *session, uint32_t *count); /* of an attached session, as known */

/* store_tail.c */
sp_status spi_store_find_tail(void *store, sp_session *session, uint32_t logits_rows, bool *has_rows, bool *has_logits,
                              sp_error *error);
uint64_t spi_store_verify_tails(sp_store *store);               /* drops those that are damaged; how many */
void spi_store_trim_tails(sp_store *store, uint64_t bytes_max); /* UINT64_MAX: only counts what there is */

#endif
