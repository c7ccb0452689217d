/* hf/shards.c - the safetensors files of a folder: the one that there is, or those that the index names. May include:
 * what hf.h may. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/folder.h"

#define PATH_BYTES 4096

static sp_status open_shard(spi_hf_reader *read, const char *name) {
    char path[PATH_BYTES];
    spi_hf_shard *shard = &read->hf->shards[read->hf->shard_count];
    if (strchr(name, '/') || name[0] == '.' || !name[0]) {
        return spi_fail(read->error, SP_BAD_FILE,
                        "model.safetensors.index.json: weight_map names no file of the folder");
    }
    shard->name = spi_copy_string(name, strlen(name));
    if (!shard->name) {
        return spi_fail(read->error, SP_NO_MEMORY, "no memory for a list of files");
    }
    read->hf->shard_count++;
    snprintf(path, sizeof path, "%s/%s", read->path, name);
    sp_status status = spi_file_map_open(path, &shard->map, read->error);
    return status ? status
                  : spi_safetensors_parse(shard->map.data, shard->map.bytes, shard->name, &shard->file, read->error);
}

/* Opens each file that the index names, once. */
static sp_status open_named(spi_hf_reader *read, const cJSON *index) {
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *item;
    sp_status status = SP_OK;
    if (!cJSON_IsObject(map)) {
        return spi_fail(read->error, SP_BAD_FILE, "model.safetensors.index.json: weight_map is missing or no object");
    }
    cJSON_ArrayForEach(item, map) {
        bool open = false;
        if (!cJSON_IsString(item)) {
            return spi_fail(read->error, SP_BAD_FILE, "model.safetensors.index.json: weight_map holds no file's name");
        }
        for (size_t i = 0; i < read->hf->shard_count && !open; i++) {
            open = !strcmp(read->hf->shards[i].name, item->valuestring);
        }
        if (!open && read->hf->shard_count == SPI_SOURCE_FILES_MAX) {
            return spi_fail(read->error, SP_LIMIT, "model.safetensors.index.json: weight_map names more than %u files",
                            SPI_SOURCE_FILES_MAX);
        }
        status = open ? SP_OK : open_shard(read, item->valuestring);
        if (status) {
            return status;
        }
    }
    return SP_OK;
}

sp_status spi_hf_open_shards(spi_hf_reader *read, const cJSON *index) {
    read->hf->shards = spi_alloc(SPI_SOURCE_FILES_MAX, sizeof *read->hf->shards);
    if (!read->hf->shards) {
        return spi_fail(read->error, SP_NO_MEMORY, "no memory for a list of files");
    }
    return index ? open_named(read, index) : open_shard(read, "model.safetensors");
}
