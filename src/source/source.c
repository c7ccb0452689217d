/* source/source.c - the index of a source, and finding things in it. See source.h. */
#include "source/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void spi_source_close(spi_source *source) {
    if (!source) {
        return;
    }
    spi_free(source->values);
    spi_free(source->values_sorted);
    spi_free(source->tensors);
    spi_free(source->tensors_sorted);
    spi_free(source->files);
    if (source->release) {
        source->release(source->owned);
    }
    spi_free(source);
}

uint64_t spi_source_bytes(const spi_source *source) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < source->file_count; i++) {
        bytes += source->files[i].size;
    }
    return bytes;
}

int spi_string_compare(spi_string a, spi_string b) {
    size_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = common ? memcmp(a.text, b.text, common) : 0;
    return order ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

/* Of equals the one that comes first, so that the later one is named as the second. */
static int by_key(const void *a, const void *b) {
    const spi_value *const *left = a, *const *right = b;
    int order = spi_string_compare((*left)->key, (*right)->key);
    return order ? order : (*left > *right) - (*left < *right);
}

static int by_name(const void *a, const void *b) {
    const spi_source_tensor *const *left = a, *const *right = b;
    int order = spi_string_compare((*left)->name, (*right)->name);
    return order ? order : (*left > *right) - (*left < *right);
}

void spi_source_sort_values(spi_source *source, const spi_value **twice) {
    *twice = NULL;
    for (uint64_t i = 0; i < source->value_count; i++) {
        source->values_sorted[i] = &source->values[i];
    }
    qsort(source->values_sorted, (size_t)source->value_count, sizeof *source->values_sorted, by_key);
    for (uint64_t i = 1; i < source->value_count && !*twice; i++) {
        if (spi_string_compare(source->values_sorted[i - 1]->key, source->values_sorted[i]->key) == 0) {
            *twice = source->values_sorted[i];
        }
    }
}

void spi_source_sort_tensors(spi_source *source, const spi_source_tensor **twice) {
    *twice = NULL;
    for (uint64_t i = 0; i < source->tensor_count; i++) {
        source->tensors_sorted[i] = &source->tensors[i];
    }
    qsort(source->tensors_sorted, (size_t)source->tensor_count, sizeof *source->tensors_sorted, by_name);
    for (uint64_t i = 1; i < source->tensor_count && !*twice; i++) {
        if (spi_string_compare(source->tensors_sorted[i - 1]->name, source->tensors_sorted[i]->name) == 0) {
            *twice = source->tensors_sorted[i];
        }
    }
}

const spi_value *spi_source_value_at(const spi_source *source, uint64_t index) {
    return index < source->value_count ? &source->values[index] : NULL;
}

const spi_source_tensor *spi_source_tensor_at(const spi_source *source, uint64_t index) {
    return index < source->tensor_count ? &source->tensors[index] : NULL;
}

const spi_value *spi_source_find(const spi_source *source, const char *key) {
    spi_string wanted = {.text = key, .bytes = strlen(key)};
    uint64_t low = 0, high = source->value_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = spi_string_compare(source->values_sorted[middle]->key, wanted);
        if (order == 0) {
            return source->values_sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const spi_source_tensor *spi_source_find_tensor(const spi_source *source, const char *name) {
    spi_string wanted = {.text = name, .bytes = strlen(name)};
    uint64_t low = 0, high = source->tensor_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = spi_string_compare(source->tensors_sorted[middle]->name, wanted);
        if (order == 0) {
            return source->tensors_sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}
