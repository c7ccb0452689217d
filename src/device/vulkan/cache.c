/* device/vulkan/cache.c - compiled pipelines on disk, in the folder where compiled guests are cached.
 *
 * Drivers are not made for hostile cache files, so one is passed on only if the file and its folder are this user's
 * alone, a checksum over all of it is right, and the driver's own header names this device and driver. Everything else
 * means to compile again; a cache that cannot be written is no error.
 *
 * Owns: vk->cache. May include: device/vulkan/vulkan.h, os, base.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "device/vulkan/vulkan.h"
#include "os/file.h"

#define FILE_BYTES_MAX   ((size_t)256 << 20)
#define PATH_BYTES       1024
#define HEADER_BYTES_MIN 32u /* VkPipelineCacheHeaderVersionOne, as it lies in a file */

/* At the end of the file, behind the driver's data. */
typedef struct footer {
    char magic[16];
    uint64_t bytes;
    spi_hash hash; /* of the driver's data */
} footer;

static const char footer_magic[16] = "samepage shaders";

static bool is_own(const char *path, mode_t kind) {
    struct stat info;
    return !lstat(path, &info) && (info.st_mode & S_IFMT) == kind && info.st_uid == geteuid() &&
           !(info.st_mode & (S_IWGRP | S_IWOTH));
}

/* A file for each device and driver: its own name for what its cache is good for. */
static bool find_path(const spi_vk *vk, char folder[PATH_BYTES], char path[PATH_BYTES + 64]) {
    char name[2 * VK_UUID_SIZE + 1];
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++) {
        snprintf(name + (size_t)2 * i, 3, "%02x", vk->adapter.cache_id[i]);
    }
    return !spi_folder_cache(folder, PATH_BYTES) &&
           snprintf(path, PATH_BYTES + 64, "%s/vulkan-%s", folder, name) < PATH_BYTES + 64;
}

static uint32_t word_at(const uint8_t *bytes, size_t at) {
    uint32_t word;
    memcpy(&word, bytes + at, sizeof word);
    return word;
}

static bool is_good(const spi_vk *vk, const uint8_t *data, size_t bytes) {
    footer end;
    if (bytes < sizeof end + HEADER_BYTES_MIN) {
        return false;
    }
    size_t content = bytes - sizeof end;
    memcpy(&end, data + content, sizeof end);
    if (memcmp(end.magic, footer_magic, sizeof footer_magic) != 0 || end.bytes != content) {
        return false;
    }
    spi_hash hash = spi_hash_bytes(data, content, 0);
    return hash.low == end.hash.low && hash.high == end.hash.high && word_at(data, 0) >= HEADER_BYTES_MIN &&
           word_at(data, 0) <= content && word_at(data, 4) == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           word_at(data, 8) == vk->adapter.vendor && word_at(data, 12) == vk->adapter.product &&
           !memcmp(data + 16, vk->adapter.cache_id, VK_UUID_SIZE);
}

sp_status spi_vk_cache_open(spi_vk *vk, sp_error *error) {
    char folder[PATH_BYTES], path[PATH_BYTES + 64];
    void *data = NULL;
    size_t bytes = 0;
    if (find_path(vk, folder, path) && is_own(folder, S_IFDIR) && is_own(path, S_IFREG) &&
        !spi_file_read(path, FILE_BYTES_MAX, &data, &bytes, NULL) && is_good(vk, data, bytes)) {
        vk->cache_bytes = bytes - sizeof(footer);
    }
    VkPipelineCacheCreateInfo create = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                        .initialDataSize = vk->cache_bytes,
                                        .pInitialData = vk->cache_bytes ? data : NULL};
    VkResult result = vk->call->CreatePipelineCache(vk->device, &create, NULL, &vk->cache);
    spi_free(data);
    return result ? spi_vk_fail(error, result, "creating a cache of pipelines") : SP_OK;
}

void spi_vk_cache_save(spi_vk *vk) {
    char folder[PATH_BYTES], path[PATH_BYTES + 64];
    size_t bytes = 0;
    if (!vk->cache_grew || !find_path(vk, folder, path) || spi_folder_create(folder, NULL) ||
        !is_own(folder, S_IFDIR) || vk->call->GetPipelineCacheData(vk->device, vk->cache, &bytes, NULL) ||
        bytes < HEADER_BYTES_MIN || bytes > FILE_BYTES_MAX - sizeof(footer)) {
        return;
    }
    uint8_t *data = spi_alloc(bytes + sizeof(footer), 1);
    if (data && !vk->call->GetPipelineCacheData(vk->device, vk->cache, &bytes, data)) {
        footer end = {.bytes = bytes, .hash = spi_hash_bytes(data, bytes, 0)};
        memcpy(end.magic, footer_magic, sizeof footer_magic);
        memcpy(data + bytes, &end, sizeof end);
        vk->cache_grew = spi_file_write(path, data, bytes + sizeof end, false, NULL) != SP_OK;
    }
    spi_free(data);
}
