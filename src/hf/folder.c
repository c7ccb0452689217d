/* hf/folder.c - opening a folder, and what its source owns. */
#include "hf/folder.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hf/hf.h"

#define PATH_BYTES 4096

static void release(void *owned) {
    spi_hf *hf = owned;
    for (size_t i = 0; i < hf->shard_count; i++) {
        spi_safetensors_free(&hf->shards[i].file);
        spi_file_map_close(&hf->shards[i].map);
        spi_free(hf->shards[i].name);
    }
    for (size_t i = 0; i < hf->map_count; i++) {
        spi_file_map_close(&hf->maps[i]);
    }
    for (size_t i = 0; i < hf->copy_count; i++) {
        spi_free_aligned(hf->copies[i]);
    }
    spi_free(hf->shards);
    spi_free(hf->copies);
    spi_compose_free(&hf->compose);
    spi_free(hf);
}

void *spi_hf_keep(spi_hf_reader *read, size_t bytes) {
    spi_hf *hf = read->hf;
    void *memory = NULL;
    if (SPI_RESERVE(hf->copies, hf->copy_count, hf->copy_capacity) && (memory = spi_alloc_aligned(bytes, 64))) {
        hf->copies[hf->copy_count++] = memory;
    } else {
        spi_fail(read->error, SP_NO_MEMORY, "no memory for %zu bytes of a model", bytes);
    }
    return memory;
}

const char *spi_hf_key(const spi_hf_reader *read, const char *suffix, char key[SPI_HF_KEY_BYTES]) {
    snprintf(key, SPI_HF_KEY_BYTES, "%s.%s", read->family->architecture, suffix);
    return key;
}

static sp_status map_file(spi_hf_reader *read, const char *name, bool optional, spi_file_map *map) {
    char path[PATH_BYTES];
    spi_hf *hf = read->hf;
    *map = (spi_file_map){0};
    snprintf(path, sizeof path, "%s/%s", read->path, name);
    sp_error local = {0};
    sp_status status = spi_file_map_open(path, map, &local);
    if (status == SP_NOT_FOUND && optional) {
        return SP_OK;
    }
    if (status) {
        return spi_fail(read->error, status, "%s", local.message);
    }
    hf->maps[hf->map_count++] = *map;
    return SP_OK;
}

sp_status spi_hf_json(spi_hf_reader *read, const char *name, bool optional, cJSON **json) {
    spi_file_map map;
    *json = NULL;
    sp_status status = map_file(read, name, optional, &map);
    if (status == SP_NOT_FOUND) {
        return spi_fail(read->error, status,
                        "the folder has no %s: a model is a GGUF file, or a folder of safetensors with a config.json",
                        name);
    }
    if (status || !map.data) {
        return status || optional ? status : spi_fail(read->error, SP_BAD_FILE, "%s is empty", name);
    }
    const char *end = NULL;
    *json = cJSON_ParseWithLengthOpts(map.data, map.bytes, &end, 0);
    if (!*json) {
        return spi_fail(read->error, SP_BAD_FILE, "%s is no JSON: see byte %zu", name,
                        end ? (size_t)(end - (const char *)map.data) : (size_t)0);
    }
    return SP_OK;
}

sp_status spi_hf_text(spi_hf_reader *read, const char *name, spi_string *text) {
    spi_file_map map;
    sp_status status = map_file(read, name, true, &map);
    *text = (spi_string){map.data, map.bytes};
    return status;
}

/* The folder's name: what stands behind its last slash. */
static spi_string name_of(const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t first = end;
    while (first > 0 && path[first - 1] != '/') {
        first--;
    }
    return (spi_string){path + first, end - first};
}

static sp_status list_files(spi_hf_reader *read) {
    spi_source *source = read->source;
    const spi_hf *hf = read->hf;
    source->files = spi_alloc(hf->map_count + hf->shard_count, sizeof *source->files);
    if (!source->files) {
        return spi_fail(read->error, SP_NO_MEMORY, "no memory for a list of files");
    }
    for (size_t i = 0; i < hf->map_count; i++) {
        const spi_file_map *map = &hf->maps[i];
        source->files[source->file_count++] = (spi_source_file){map->data, map->bytes, map->bytes};
    }
    for (size_t i = 0; i < hf->shard_count; i++) {
        const spi_hf_shard *shard = &hf->shards[i];
        source->files[source->file_count++] =
            (spi_source_file){shard->map.data, shard->map.bytes, shard->file.header_bytes};
    }
    return SP_OK;
}

static sp_status read_all(spi_hf_reader *read) {
    sp_status status = spi_hf_json(read, "config.json", false, &read->whole_config);
    if (status) {
        return status;
    }
    spi_compose_string(&read->hf->compose, "general.name", name_of(read->path));
    status = spi_hf_read_config(read);
    status = status ? status : spi_hf_read_weights(read);
    status = status ? status : spi_hf_read_tokenizer(read);
    status = status ? status : spi_compose_finish(&read->hf->compose, read->source, read->error);
    return status ? status : list_files(read);
}

sp_status spi_hf_open(const char *folder, spi_source **source, sp_error *error) {
    *source = NULL;
    sp_error local = {0};
    spi_hf_reader read = {.path = folder, .error = error ? error : &local};
    read.source = spi_alloc(1, sizeof *read.source);
    read.hf = spi_alloc(1, sizeof *read.hf);
    sp_status status = SP_OK;
    if (!read.source || !read.hf) {
        spi_free(read.hf);
        spi_free(read.source);
        return spi_fail(read.error, SP_NO_MEMORY, "no memory to open %s", folder);
    }
    read.source->owned = read.hf;
    read.source->release = release;
    status = read_all(&read);
    spi_config_close(&read.config);
    cJSON_Delete(read.whole_config);
    if (status) {
        spi_source_close(read.source);
        return status;
    }
    *source = read.source;
    return SP_OK;
}
