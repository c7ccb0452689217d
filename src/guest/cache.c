/* guest/cache.c - see cache.h. */
#include "guest/cache.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "os/file.h"

/* At the end of the file: Wasmtime wants its own part at the start, and maps it from there. */
typedef struct footer {
    char magic[16];
    uint64_t key, artifact_bytes, wasm_bytes;
    spi_hash hash; /* of all before it, seeded with the key */
} footer;

static const char footer_magic[16] = "samepage module";

bool spi_cache_path(const char *folder, uint64_t key, const void *wasm, size_t wasm_bytes, char *path,
                    size_t capacity) {
    char name[33];
    spi_hash_text(spi_hash_bytes(wasm, wasm_bytes, 0), name);
    int length = snprintf(path, capacity, "%s/%s-%016llx", folder, name, (unsigned long long)key);
    return length > 0 && (size_t)length < capacity;
}

static bool is_own(const struct stat *info) {
    return info->st_uid == geteuid() && !(info->st_mode & (S_IWGRP | S_IWOTH));
}

bool spi_cache_folder_is_safe(const char *folder) {
    struct stat info;
    return !spi_folder_create(folder, NULL) && !stat(folder, &info) && S_ISDIR(info.st_mode) && is_own(&info);
}

static bool is_intact(const spi_file_map *map, uint64_t key, const void *wasm, size_t wasm_bytes) {
    footer end;
    if (map->bytes < sizeof end) {
        return false;
    }
    size_t content = map->bytes - sizeof end;
    const char *data = map->data;
    memcpy(&end, data + content, sizeof end);
    if (memcmp(end.magic, footer_magic, sizeof footer_magic) != 0 || end.key != key || end.wasm_bytes != wasm_bytes ||
        wasm_bytes > content || end.artifact_bytes != content - wasm_bytes ||
        memcmp(data + end.artifact_bytes, wasm, wasm_bytes) != 0) {
        return false;
    }
    spi_hash hash = spi_hash_bytes(data, content, key);
    return hash.low == end.hash.low && hash.high == end.hash.high;
}

wasmtime_module_t *spi_cache_load(wasm_engine_t *engine, const char *path, uint64_t key, const void *wasm,
                                  size_t wasm_bytes) {
    struct stat info;
    spi_file_map map;
    wasmtime_module_t *module = NULL;
    if (lstat(path, &info) || !S_ISREG(info.st_mode) || !is_own(&info) || spi_file_map_open(path, &map, NULL)) {
        return NULL;
    }
    if (is_intact(&map, key, wasm, wasm_bytes)) {
        wasmtime_error_t *failure = wasmtime_module_deserialize_file(engine, path, &module);
        if (failure) {
            wasmtime_error_delete(failure);
            module = NULL;
        }
    }
    spi_file_map_close(&map);
    return module;
}

sp_status spi_cache_store(const char *path, uint64_t key, const void *wasm, size_t wasm_bytes,
                          const wasm_byte_vec_t *artifact, sp_error *error) {
    footer end = {.key = key, .artifact_bytes = artifact->size, .wasm_bytes = wasm_bytes};
    size_t content = artifact->size + wasm_bytes;
    char *data = spi_alloc(content + sizeof end, 1);
    if (!data) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to write %s", path);
    }
    memcpy(end.magic, footer_magic, sizeof footer_magic);
    memcpy(data, artifact->data, artifact->size);
    memcpy(data + artifact->size, wasm, wasm_bytes);
    end.hash = spi_hash_bytes(data, content, key);
    memcpy(data + content, &end, sizeof end);
    /* Not synced: after a crash a checksum that is wrong costs one more compilation. */
    sp_status status = spi_file_write(path, data, content + sizeof end, false, error);
    spi_free(data);
    return status;
}

/* ---- what is left behind ---- */

static_assert(SPI_CACHE_LEFTOVER_S > 2 * (SPI_COMPILE_MS_MAX / 1000), "who compiles long is not swept away");

static bool is_compile_folder(const char *name) {
    size_t prefix = strcspn(SPI_COMPILE_FOLDER, "X");
    return strlen(name) == sizeof SPI_COMPILE_FOLDER - 1 && !memcmp(name, SPI_COMPILE_FOLDER, prefix);
}

/* NAME.PID-NUMBER.part, as files are called until they are whole (os/file_write.c). */
static bool is_part(const char *name) {
    static const char suffix[] = ".part", digits[] = "0123456789";
    size_t length = strlen(name), end = sizeof suffix - 1;
    if (length <= end || strcmp(name + length - end, suffix) != 0) {
        return false;
    }
    const char *dot = name + length - end;
    while (dot > name && dot[-1] != '.') {
        dot--;
    }
    size_t pid = strspn(dot, digits), number = pid && dot[pid] == '-' ? strspn(dot + pid + 1, digits) : 0;
    return dot > name && number && dot + pid + 1 + number == name + length - end;
}

static void remove_folder(int parent, const char *name) {
    int file = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *all = file < 0 ? NULL : fdopendir(file);
    if (!all) {
        if (file >= 0) {
            close(file);
        }
        return;
    }
    for (struct dirent *item; (item = readdir(all));) {
        (void)unlinkat(file, item->d_name, 0); /* which leaves folders, and there are none but . and .. */
    }
    closedir(all);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

void spi_cache_sweep(const char *folder) {
    DIR *all = opendir(folder);
    if (!all) {
        return;
    }
    for (struct dirent *item; (item = readdir(all));) {
        const char *name = item->d_name;
        bool is_folder = is_compile_folder(name);
        struct stat info;
        if ((!is_folder && !is_part(name)) || fstatat(dirfd(all), name, &info, AT_SYMLINK_NOFOLLOW) ||
            time(NULL) - info.st_mtime <= SPI_CACHE_LEFTOVER_S) {
            continue;
        }
        if (is_folder && S_ISDIR(info.st_mode)) {
            remove_folder(dirfd(all), name);
        } else if (!is_folder && S_ISREG(info.st_mode)) {
            (void)unlinkat(dirfd(all), name, 0);
        }
    }
    closedir(all);
}
