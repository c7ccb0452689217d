/* hf/json.c - see json.h. */
#include "hf/json.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define WHOLE_MAX 9007199254740992.0 /* 2^53 */

sp_status spi_config_open(spi_config *config, const cJSON *object, const char *file, sp_error *error) {
    size_t entries = 0;
    const cJSON *item;
    *config = (spi_config){.object = object, .file = file, .error = error};
    if (!cJSON_IsObject(object)) {
        return spi_fail(error, SP_BAD_FILE, "%s is no JSON object", file);
    }
    cJSON_ArrayForEach(item, object) {
        entries++;
    }
    config->read = spi_alloc(entries, sizeof *config->read);
    return config->read ? SP_OK : spi_fail(error, SP_NO_MEMORY, "no memory to read %s", file);
}

void spi_config_close(spi_config *config) {
    spi_free(config->read);
    config->read = NULL;
}

const cJSON *spi_config_find(const spi_config *config, const char *key) {
    const cJSON *item, *found = NULL;
    size_t index = 0;
    cJSON_ArrayForEach(item, config->object) {
        if (!strcmp(item->string, key)) {
            config->read[index] = true;
            found = item;
        }
        index++;
    }
    return found && !cJSON_IsNull(found) ? found : NULL;
}

bool spi_json_whole(const cJSON *item, uint64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > WHOLE_MAX ||
        item->valuedouble != floor(item->valuedouble)) {
        return false;
    }
    *out = (uint64_t)item->valuedouble;
    return true;
}

static sp_status missing(const spi_config *config, const char *key) {
    return spi_fail(config->error, SP_BAD_FILE, "%s: %s is missing", config->file, key);
}

sp_status spi_config_count(const spi_config *config, const char *key, uint32_t fallback, uint32_t max, uint32_t *out) {
    const cJSON *item = spi_config_find(config, key);
    uint64_t number = fallback;
    if (!item && !fallback) {
        return missing(config, key);
    }
    if (item && (!spi_json_whole(item, &number) || number < 1 || number > max)) {
        return spi_fail(config->error, SP_BAD_FILE, "%s: %s is no whole number in 1..%u", config->file, key, max);
    }
    *out = (uint32_t)number;
    return SP_OK;
}

sp_status spi_config_number(const spi_config *config, const char *key, double fallback, double *out) {
    const cJSON *item = spi_config_find(config, key);
    if (!item && isnan(fallback)) {
        return missing(config, key);
    }
    if (item && (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))) {
        return spi_fail(config->error, SP_BAD_FILE, "%s: %s is no number", config->file, key);
    }
    *out = item ? item->valuedouble : fallback;
    return SP_OK;
}

sp_status spi_config_flag(const spi_config *config, const char *key, bool fallback, bool *out) {
    const cJSON *item = spi_config_find(config, key);
    if (item && !cJSON_IsBool(item)) {
        return spi_fail(config->error, SP_BAD_FILE, "%s: %s is neither true nor false", config->file, key);
    }
    *out = item ? cJSON_IsTrue(item) : fallback;
    return SP_OK;
}

sp_status spi_config_text(const spi_config *config, const char *key, const char *fallback, const char **out) {
    const cJSON *item = spi_config_find(config, key);
    if (!item && !fallback) {
        return missing(config, key);
    }
    if (item && !cJSON_IsString(item)) {
        return spi_fail(config->error, SP_BAD_FILE, "%s: %s is no string", config->file, key);
    }
    *out = item ? item->valuestring : fallback;
    return SP_OK;
}

static bool says_nothing(const cJSON *item) {
    return cJSON_IsNull(item) || cJSON_IsFalse(item) || (cJSON_IsNumber(item) && item->valuedouble == 0) ||
           (cJSON_IsString(item) && !item->valuestring[0]) ||
           ((cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child);
}

static bool is_harmless(const char *name, const char *const *harmless) {
    for (; *harmless; harmless++) {
        size_t bytes = strlen(*harmless);
        bool begins = bytes && (*harmless)[bytes - 1] == '*';
        if (begins ? !strncmp(name, *harmless, bytes - 1) : !strcmp(name, *harmless)) {
            return true;
        }
    }
    return false;
}

sp_status spi_config_finish(const spi_config *config, const char *const *harmless) {
    const cJSON *item;
    size_t index = 0;
    cJSON_ArrayForEach(item, config->object) {
        if (!config->read[index++] && !says_nothing(item) && !is_harmless(item->string, harmless)) {
            char shown[80];
            spi_string_printable(spi_json_string(item->string), shown, sizeof shown);
            return spi_fail(config->error, SP_UNSUPPORTED, "%s: the model uses %s, which is not supported",
                            config->file, shown);
        }
    }
    return SP_OK;
}
