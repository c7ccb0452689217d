/* apps/common.c - see common.h. */
#include "apps/common.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "os/clock.h"

/* A load that is over sooner shows nothing: a line that flashes tells nobody anything. */
#define PROGRESS_AFTER_NS 300000000

int spi_complain_error(const sp_error *error) {
    return spi_complain("%s", error->message[0] ? error->message : sp_status_text(error->status));
}

/* ---- opening ---- */

/* What "auto" took, to who watches or asks; that better hardware was not taken, to everybody. */
static void tell_choice(const spi_common *common, const sp_device *device) {
    sp_device_info info;
    sp_device_get_info(device, &info);
    if (info.passed_over[0] && !common->quiet) {
        fprintf(stderr, "samepage: %s; computing on %s instead\n", info.passed_over, info.name);
    } else if (common->verbose || (!common->quiet && isatty(STDERR_FILENO))) {
        fprintf(stderr, "samepage: computing on %s: %s\n", info.name, info.description);
    }
}

sp_status spi_open_device(const spi_common *common, sp_device **device, sp_error *error) {
    const char *name = common->device ? common->device : "auto";
    sp_device_options options = {.thread_count = common->threads, .isa = common->isa};
    sp_status status = sp_device_open(name, &options, device, error);
    if (!status && !strcmp(name, "auto")) {
        tell_choice(common, *device);
    }
    return status;
}

void spi_tell_revived(const sp_device *device, const spi_common *common) {
    sp_device_info info;
    sp_device_counters counters;
    if (!device || common->quiet) {
        return;
    }
    sp_device_get_info(device, &info);
    sp_device_get_counters(device, &counters);
    if (counters.revived) {
        fprintf(stderr,
                "samepage: %s was lost and opened anew, %" PRIu64 " times; what was computed on it is complete\n",
                info.name, counters.revived);
    }
}

/* What can be done where a device has no room for a model. */
static sp_status tell_room(const sp_model *model, const sp_device *device, sp_error *error) {
    sp_device_info info;
    sp_model_info of;
    char weights[32], room[32];
    sp_device_get_info(device, &info);
    sp_model_get_info(model, &of);
    if (!info.memory_bytes) {
        return error->status;
    }
    spi_words_bytes(of.file_bytes, weights, sizeof weights);
    spi_words_bytes(info.memory_bytes, room, sizeof room);
    return spi_fail_within(error,
                           "%s of weights do not fit into what is free of %s's %s: close what else uses it, take a "
                           "model in fewer bits, or -d cpu",
                           weights, info.name, room);
}

typedef struct progress {
    const char *name;
    int64_t begun_ns;
    int percent; /* that is shown; -1: nothing is */
} progress;

static void show_progress(void *env, uint64_t done_bytes, uint64_t total_bytes) {
    progress *shown = env;
    int percent = total_bytes ? (int)((double)done_bytes / (double)total_bytes * 100) : 100;
    if (percent == shown->percent || spi_clock_ns() - shown->begun_ns < PROGRESS_AFTER_NS) {
        return;
    }
    shown->percent = percent;
    fprintf(stderr, "\rloading %s %3d%%", shown->name, percent);
    fflush(stderr);
}

static void end_progress(const progress *shown) {
    if (shown->percent >= 0) {
        fprintf(stderr, "\r%*s\r", (int)strlen(shown->name) + 14, "");
        fflush(stderr);
    }
}

sp_status spi_open_model(const spi_common *common, const char *path, sp_device *device, sp_model **model,
                         sp_error *error) {
    sp_model_info info;
    sp_status status = sp_model_open(path, model, error);
    if (status) {
        return status;
    }
    sp_model_get_info(*model, &info);
    progress shown = {.name = info.name, .begun_ns = spi_clock_ns(), .percent = -1};
    bool is_shown = !common->quiet && isatty(STDERR_FILENO);
    status = sp_model_load(*model, device, is_shown ? show_progress : NULL, &shown, error);
    end_progress(&shown);
    status = status == SP_NO_MEMORY ? tell_room(*model, device, error) : status;
    if (status) {
        sp_model_close(*model);
        *model = NULL;
    }
    return status;
}

sp_status spi_open_both(const spi_common *common, spi_opened *opened, sp_error *error) {
    int64_t begun_ns = spi_clock_ns();
    *opened = (spi_opened){.kv_type = common->kv_type};
    sp_status status = spi_open_device(common, &opened->device, error);
    if (!status) {
        status = spi_open_model(common, common->model, opened->device, &opened->model, error);
    }
    opened->load_seconds = (double)(spi_clock_ns() - begun_ns) * 1e-9;
    return status;
}

void spi_close_both(spi_opened *opened) {
    sp_model_close(opened->model);
    sp_device_close(opened->device);
    *opened = (spi_opened){0};
}

/* ---- text ---- */

sp_status spi_open_tokenizer(const sp_model *model, const sp_tokenizer **tokenizer, sp_error *error) {
    *tokenizer = sp_model_tokenizer(model, error);
    return *tokenizer ? SP_OK : error->status;
}

sp_status spi_encode(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes, uint32_t flags,
                     int32_t **tokens, size_t *count, sp_error *error) {
    size_t capacity = text_bytes + 8; /* a token is a byte at least, and a few are added */
    *tokens = spi_alloc(capacity, sizeof **tokens);
    if (!*tokens) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for the tokens of %zu bytes of text", text_bytes);
    }
    sp_status status = sp_tokenizer_encode(tokenizer, text, text_bytes, flags, *tokens, capacity, count, error);
    if (status == SP_BUFFER_TOO_SMALL) { /* unless normalisation made the text longer */
        spi_free(*tokens);
        capacity = *count;
        if (!(*tokens = spi_alloc(capacity, sizeof **tokens))) {
            return spi_fail(error, SP_NO_MEMORY, "not enough memory for %zu tokens", capacity);
        }
        status = sp_tokenizer_encode(tokenizer, text, text_bytes, flags, *tokens, capacity, count, error);
    }
    if (status) {
        spi_free(*tokens);
        *tokens = NULL;
    }
    return status;
}

sp_status spi_piece(const sp_tokenizer *tokenizer, int32_t token, char **text, size_t *bytes, sp_error *error) {
    *text = NULL;
    sp_status status = sp_tokenizer_decode(tokenizer, &token, 1, SP_DECODE_SPECIAL, NULL, 0, bytes, error);
    if (status && status != SP_BUFFER_TOO_SMALL) {
        return status;
    }
    if (!(*text = spi_alloc(*bytes + 1, 1))) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for a token's text");
    }
    return sp_tokenizer_decode(tokenizer, &token, 1, SP_DECODE_SPECIAL, *text, *bytes, bytes, error);
}

/* ---- standard files ---- */

void spi_invite(const char *what) {
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
        fprintf(stderr, "samepage: type %s; Ctrl-D on a line of its own ends it\n", what);
    }
}

sp_status spi_read_input(size_t bytes_max, char **text, size_t *bytes, sp_error *error) {
    size_t capacity = 0, used = 0;
    char *read = NULL;
    sp_status status = SP_OK;
    *text = NULL;
    *bytes = 0;
    do {
        size_t larger = capacity ? capacity * 2 : 1 << 16;
        char *grown = spi_resize(read, capacity, larger, 1);
        if (!grown) {
            status = spi_fail(error, SP_NO_MEMORY, "not enough memory for what is on standard input");
            break;
        }
        read = grown;
        capacity = larger;
        used += fread(read + used, 1, capacity - used, stdin);
    } while (used == capacity && used <= bytes_max);
    if (!status && ferror(stdin)) {
        status = spi_fail(error, SP_IO, "cannot read standard input: %s", strerror(errno));
    } else if (!status && used > bytes_max) {
        status = spi_fail(error, SP_LIMIT, "standard input has more than the %zu bytes that this can take", bytes_max);
    }
    if (status) {
        spi_free(read);
        return status;
    }
    *text = read;
    *bytes = used;
    return SP_OK;
}

sp_status spi_check_standard_files(bool reads, sp_error *error) {
    int in = fcntl(STDIN_FILENO, F_GETFL), out = fcntl(STDOUT_FILENO, F_GETFL);
    if (reads && (in < 0 || (in & O_ACCMODE) == O_WRONLY)) {
        return spi_fail(error, SP_IO, "cannot read standard input: it is closed");
    }
    return out < 0 || (out & O_ACCMODE) == O_RDONLY
               ? spi_fail(error, SP_IO, "cannot write to standard output: it is closed")
               : SP_OK;
}

/* ---- words ---- */

void spi_words_bytes(uint64_t bytes, char *text, size_t capacity) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double number = (double)bytes;
    size_t unit = 0;
    for (; number >= 1024 && unit < 4; unit++) {
        number /= 1024;
    }
    snprintf(text, capacity, unit ? "%.2f %s" : "%.0f %s", number, units[unit]);
}

void spi_words_us(double us, char *text, size_t capacity) {
    if (us < 1e3) {
        snprintf(text, capacity, "%.1f us", us);
    } else if (us < 1e6) {
        snprintf(text, capacity, "%.2f ms", us * 1e-3);
    } else {
        snprintf(text, capacity, "%.2f s", us * 1e-6);
    }
}

void spi_words_count(uint64_t count, char *text, size_t capacity) {
    double number = (double)count;
    if (number >= 1e9) {
        snprintf(text, capacity, "%.2f B", number * 1e-9);
    } else if (number >= 1e6) {
        snprintf(text, capacity, "%.2f M", number * 1e-6);
    } else {
        snprintf(text, capacity, "%.2f K", number * 1e-3);
    }
}

void spi_model_words(const sp_model_info *info, char *text, size_t capacity) {
    double count = (double)info->parameter_count;
    bool is_large = count >= 0.95e9;
    count *= is_large ? 1e-9 : 1e-6;
    snprintf(text, capacity, "%s %.*f%s %s", info->architecture, count < 10, count, is_large ? "B" : "M", info->type);
}

/* ---- statistics ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double spi_median(double *values, uint32_t count) {
    if (!count) {
        return 0;
    }
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double spi_deviation(const double *values, uint32_t count) {
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < count; i++) {
        mean += values[i] / count;
    }
    for (uint32_t i = 0; i < count; i++) {
        square += (values[i] - mean) * (values[i] - mean);
    }
    return count > 1 ? sqrt(square / (count - 1)) : 0;
}

/* ---- JSON ---- */

/* Length of the well-formed UTF-8 sequence at text, or 0. */
static size_t utf8_sequence(const unsigned char *text, size_t bytes) {
    unsigned char c = text[0];
    size_t length = c < 0x80                ? 1
                    : c >= 0xc2 && c < 0xe0 ? 2
                    : c >= 0xe0 && c < 0xf0 ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    if (!length || length > bytes) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (c == 0xe0 && text[1] < 0xa0) || (c == 0xf0 && text[1] < 0x90);
    bool is_outside = (c == 0xed && text[1] >= 0xa0) || (c == 0xf4 && text[1] >= 0x90);
    return is_overlong || is_outside ? 0 : length;
}

void spi_json_add_text(cJSON *object, const char *name, const char *text, size_t bytes) {
    char *clean = bytes <= SIZE_MAX / 4 ? spi_alloc(bytes * 3 + 1, 1) : NULL, *out = clean;
    if (!clean) {
        return;
    }
    for (size_t i = 0; i < bytes;) { /* cJSON's strings end at a zero byte */
        size_t length = text[i] ? utf8_sequence((const unsigned char *)text + i, bytes - i) : 0;
        memcpy(out, length ? text + i : "\xef\xbf\xbd", length ? length : 3);
        out += length ? length : 3;
        i += length ? length : 1;
    }
    cJSON *string = cJSON_CreateString(clean);
    if (name) {
        cJSON_AddItemToObject(object, name, string);
    } else {
        cJSON_AddItemToArray(object, string);
    }
    spi_free(clean);
}

int spi_json_print(cJSON *value) {
    char *text = cJSON_Print(value);
    cJSON_Delete(value);
    if (!text) {
        return spi_complain("not enough memory for the JSON text");
    }
    puts(text);
    cJSON_free(text);
    return SPI_EXIT_OK;
}
