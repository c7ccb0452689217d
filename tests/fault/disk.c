/* tests/fault/disk.c - see disk.h. */
#include "fault/disk.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

#define OPS_MAX   200000u
#define NAMES_MAX 512
#define NEVER     UINT32_MAX

typedef struct op {
    record head;
    char *path; /* with a zero byte behind it */
    const uint8_t *data;
    char *to;         /* RENAME */
    uint32_t safe_at; /* the moment from which on it survives; NEVER */
} op;

struct disk {
    char folder[512];
    void *texts[2];
    op *ops;
    uint32_t count, start_count; /* those of the start come first */
};

/* ---- reading ---- */

static char *copy_path(const uint8_t *from, size_t bytes) {
    char *path = malloc(bytes + 1);
    assert_non_null(path);
    memcpy(path, from, bytes);
    path[bytes] = 0;
    return path;
}

static void read_ops(disk *all, const char *path, int which) {
    size_t bytes;
    sp_error error = {0};
    TEST_OK(spi_file_read(path, (size_t)1 << 30, &all->texts[which], &bytes, &error), error);
    const uint8_t *at = all->texts[which], *end = at + bytes;
    while ((size_t)(end - at) >= sizeof(record)) { /* a process that was killed may have left half a record */
        op *item = &all->ops[all->count];
        memcpy(&item->head, at, sizeof item->head);
        if ((uint64_t)(end - at) < sizeof item->head + item->head.path_bytes + item->head.data_bytes) {
            break;
        }
        at += sizeof item->head;
        item->path = copy_path(at, item->head.path_bytes);
        item->data = at + item->head.path_bytes;
        item->to = item->head.kind == RECORD_RENAME ? copy_path(item->data, item->head.data_bytes) : NULL;
        at += item->head.path_bytes + item->head.data_bytes;
        assert_true(++all->count < OPS_MAX);
    }
}

static bool is_name(const op *item) {
    return item->head.kind <= RECORD_REMOVE;
}

/* Whether the folder of this path is the one that was synced. */
static bool lies_in(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && path[length] == '/' && !strchr(path + length + 1, '/');
}

static bool saves(const op *sync, const op *item) {
    if (sync->head.kind != RECORD_SYNC) {
        return false;
    }
    return is_name(item) ? *sync->path && lies_in(item->path, sync->path)
                         : !*sync->path && sync->head.node == item->head.node;
}

static void find_syncs(disk *all) {
    for (uint32_t i = 0; i < all->count; i++) {
        op *item = &all->ops[i];
        bool can_be_lost = is_name(item) || item->head.kind == RECORD_WRITE || item->head.kind == RECORD_SIZE;
        item->safe_at = i < all->start_count || !can_be_lost ? 0 : NEVER;
        for (uint32_t k = i + 1; k < all->count && item->safe_at == NEVER; k++) {
            item->safe_at = saves(&all->ops[k], item) ? k + 1 : NEVER;
        }
    }
}

disk *disk_open(const char *folder, const char *start_path, const char *record_path) {
    disk *all = calloc(1, sizeof *all);
    assert_non_null(all);
    all->ops = calloc(OPS_MAX, sizeof *all->ops);
    assert_non_null(all->ops);
    snprintf(all->folder, sizeof all->folder, "%s", folder);
    read_ops(all, start_path, 0);
    all->start_count = all->count;
    read_ops(all, record_path, 1);
    find_syncs(all);
    return all;
}

void disk_close(disk *all) {
    for (uint32_t i = 0; i < all->count; i++) {
        free(all->ops[i].path);
        free(all->ops[i].to);
    }
    free(all->texts[0]);
    free(all->texts[1]);
    free(all->ops);
    free(all);
}

uint32_t disk_moments(const disk *all) {
    return all->count - all->start_count + 1;
}

/* ---- the start ---- */

static FILE *start;

static int note_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    record item = {.path_bytes = (uint32_t)strlen(path), .node = (uint64_t)info->st_ino};
    size_t bytes = 0;
    void *data = NULL;
    sp_error error = {0};
    (void)where;
    item.kind = kind == FTW_D ? RECORD_FOLDER : RECORD_MAKE;
    fwrite(&item, sizeof item, 1, start);
    fwrite(path, 1, item.path_bytes, start);
    if (kind == FTW_F && info->st_size) {
        TEST_OK(spi_file_read(path, (size_t)1 << 30, &data, &bytes, &error), error);
        item = (record){.kind = RECORD_WRITE, .node = item.node, .data_bytes = bytes};
        fwrite(&item, sizeof item, 1, start);
        fwrite(data, 1, bytes, start);
        free(data);
    }
    return 0;
}

void disk_note_start(const char *folder, const char *start_path) {
    start = fopen(start_path, "w");
    assert_non_null(start);
    (void)nftw(folder, note_one, 16, FTW_PHYS);
    assert_int_equal(fclose(start), 0);
}

/* ---- losing ---- */

typedef struct cut {
    const disk *disk;
    uint32_t end;    /* ops from here on never happened */
    uint32_t middle; /* LATE, EARLY */
    disk_loss loss;
    uint32_t sector; /* bytes */
    test_random *random;
} cut;

static bool is_safe(const cut *c, uint32_t i) {
    return c->disk->ops[i].safe_at <= c->end;
}

static bool survives(const cut *c, uint32_t i) {
    if (is_safe(c, i)) {
        return true;
    }
    switch (c->loss) {
    case DISK_LOSES_ALL: return false;
    case DISK_LOSES_SOME: return test_random_below(c->random, 2);
    case DISK_LOSES_LATE: return i <= c->middle;
    case DISK_LOSES_EARLY: return i >= c->middle;
    case DISK_LOSES_PARTS: return is_name(&c->disk->ops[i]) ? test_random_below(c->random, 4) : true;
    default: return true;
    }
}

/* ---- names ---- */

typedef struct name {
    char *path;
    uint64_t node;
    uint32_t made_at; /* the number may have been another file's before */
    bool is_folder;
} name;

typedef struct names {
    name items[NAMES_MAX];
    int count;
} names;

static int find_name(const names *all, const char *path) {
    for (int i = 0; i < all->count; i++) {
        if (!strcmp(all->items[i].path, path)) {
            return i;
        }
    }
    return -1;
}

static void drop_name(names *all, const char *path) {
    int i = find_name(all, path);
    if (i >= 0) {
        all->items[i] = all->items[--all->count];
    }
}

/* Which file a path meant when the process renamed it, whatever of it survives. */
static const op *file_at(const disk *all, const char *path, uint32_t before, uint32_t *made_at) {
    for (uint32_t i = before; i-- > 0;) {
        const op *item = &all->ops[i];
        if (item->head.kind == RECORD_MAKE && !strcmp(item->path, path)) {
            *made_at = i;
            return item;
        }
        if (item->head.kind == RECORD_RENAME && !strcmp(item->to, path)) {
            return file_at(all, item->path, i, made_at);
        }
    }
    return NULL;
}

static void add_name(names *all, char *path, uint64_t node, uint32_t made_at, bool is_folder) {
    drop_name(all, path);
    assert_true(all->count < NAMES_MAX);
    all->items[all->count++] = (name){path, node, made_at, is_folder};
}

static void apply_name(names *all, const cut *c, uint32_t i) {
    const op *item = &c->disk->ops[i];
    uint32_t made_at = 0;
    if (item->head.kind == RECORD_MAKE) {
        add_name(all, item->path, item->head.node, i, false);
    } else if (item->head.kind == RECORD_FOLDER) {
        add_name(all, item->path, 0, i, true);
    } else if (item->head.kind == RECORD_REMOVE) {
        drop_name(all, item->path);
    } else {
        const op *file = file_at(c->disk, item->path, i, &made_at);
        assert_non_null(file);
        drop_name(all, item->path);
        add_name(all, item->to, file->head.node, made_at, false);
    }
}

/* ---- bytes ---- */

typedef struct content {
    uint8_t *bytes;
    uint64_t size, capacity;
} content;

static void want_size(content *to, uint64_t size) {
    if (size > to->capacity) {
        to->bytes = realloc(to->bytes, (size_t)size * 2);
        assert_non_null(to->bytes);
        memset(to->bytes + to->capacity, 0, (size_t)(size * 2 - to->capacity));
        to->capacity = size * 2;
    }
    to->size = size > to->size ? size : to->size;
}

static void write_sectors(content *to, const cut *c, const op *item, bool is_whole) {
    uint64_t at = item->head.offset, end = at + item->head.data_bytes;
    want_size(to, end);
    while (at < end) {
        uint64_t next = (at / c->sector + 1) * c->sector;
        next = next < end ? next : end;
        if (is_whole || test_random_below(c->random, 2)) {
            memcpy(to->bytes + at, item->data + (at - item->head.offset), (size_t)(next - at));
        }
        at = next;
    }
}

static void apply_bytes(content *to, const cut *c, uint32_t i) {
    const op *item = &c->disk->ops[i];
    if (item->head.kind == RECORD_SIZE) {
        uint64_t size = item->head.offset;
        if (size < to->size) {
            memset(to->bytes + size, 0, (size_t)(to->size - size));
            to->size = size;
        }
        want_size(to, size);
    } else if (!is_safe(c, i) && c->loss == DISK_LOSES_BYTES) {
        want_size(to, item->head.offset + item->head.data_bytes);
    } else {
        bool is_torn = !is_safe(c, i) && (c->loss == DISK_LOSES_PARTS || i == c->middle);
        write_sectors(to, c, item, !is_torn);
    }
}

static void make_file(const cut *c, const name *file) {
    content to = {0};
    sp_error error = {0};
    for (uint32_t i = file->made_at + 1; i < c->end; i++) {
        const op *item = &c->disk->ops[i];
        bool is_ours = item->head.node == file->node;
        if (item->head.kind == RECORD_MAKE && is_ours) {
            break; /* its number is another file's from here on */
        }
        if (is_ours && (item->head.kind == RECORD_WRITE || item->head.kind == RECORD_SIZE) && survives(c, i)) {
            apply_bytes(&to, c, i);
        }
    }
    sp_status status =
        spi_file_write(file->path, to.bytes ? to.bytes : (const uint8_t *)"", (size_t)to.size, false, &error);
    free(to.bytes);
    TEST_OK(status, error);
}

/* ---- a power cut ---- */

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const name *)a)->path, ((const name *)b)->path);
}

/* A file whose folder is gone is gone, too. */
static void make_all(const cut *c, names *all) {
    qsort(all->items, (size_t)all->count, sizeof *all->items, by_path); /* folders before what is in them */
    for (int i = 0; i < all->count; i++) {
        char above[512];
        snprintf(above, sizeof above, "%s", all->items[i].path);
        *strrchr(above, '/') = 0;
        bool is_nameless = !strncmp(strrchr(all->items[i].path, '/') + 1, RECORD_NAMELESS, strlen(RECORD_NAMELESS));
        if (is_nameless || access(above, F_OK)) {
            continue;
        }
        if (all->items[i].is_folder) {
            assert_int_equal(mkdir(all->items[i].path, 0700), 0);
        } else {
            make_file(c, &all->items[i]);
        }
    }
}

int disk_cut(const disk *all, uint32_t moment, disk_loss loss, test_random *random) {
    cut c = {.disk = all,
             .end = all->start_count + moment,
             .loss = loss,
             .sector = test_random_below(random, 2) ? 512 : 4096,
             .random = random};
    names found = {0};
    int told = -1;
    uint32_t first = all->start_count;
    for (uint32_t i = all->start_count; i < c.end; i++) { /* what is pending begins here */
        first = is_safe(&c, i) && first == i ? i + 1 : first;
    }
    c.middle = loss == DISK_LOSES_LATE || loss == DISK_LOSES_EARLY
                   ? first + test_random_below(random, c.end - first + 1)
                   : NEVER;
    for (uint32_t i = 0; i < c.end; i++) {
        const op *item = &all->ops[i];
        told = item->head.kind == RECORD_TOLD ? (int)item->head.offset : told;
        if (is_name(item) && survives(&c, i)) {
            apply_name(&found, &c, i);
        }
    }
    (void)nftw(all->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    make_all(&c, &found);
    return told;
}
