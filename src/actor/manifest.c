/* actor/manifest.c - see manifest.h. */
#include "actor/manifest.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define MAGIC       "SPactor1"
#define MAGIC_BYTES 8u
#define TAG_NEEDED  0x80000000u

enum { TAG_NAME = 1, TAG_DEVICE, TAG_ENVIRONMENT, TAG_LIMITS, TAG_MODEL, TAG_MAIL, TAG_TIMER, TAG_KV_TYPE };

typedef struct mail_head { /* in front of the sender's name, a zero byte and the text */
    uint64_t reply_to, sent_ms;
    uint32_t kind, failures;
} mail_head;

typedef struct limits {
    uint64_t memory_bytes_max;
    uint32_t deadline_ms, failures_max;
} limits;

void spi_manifest_free(spi_manifest *manifest) {
    spi_record_free(&manifest->record);
    for (size_t i = 0; i < manifest->mail_count; i++) {
        spi_mail_free(&manifest->mail[i]);
    }
    for (size_t i = 0; i < manifest->timer_count; i++) {
        spi_free(manifest->timers[i].note);
    }
    spi_free(manifest->mail);
    spi_free(manifest->timers);
    *manifest = (spi_manifest){0};
}

/* ---- writing ---- */

typedef struct writer {
    uint8_t *bytes;
    size_t count, capacity;
    bool has_failed;
} writer;

static void put(writer *w, const void *bytes, size_t count) {
    if (w->has_failed || !spi_reserve((void **)&w->bytes, &w->capacity, w->count + count, 1)) {
        w->has_failed = true;
        return;
    }
    if (count) {
        memcpy(w->bytes + w->count, bytes, count);
    }
    w->count += count;
}

/* A field of up to three pieces. */
static void put_field(writer *w, uint32_t tag, const void *a, size_t a_bytes, const void *b, size_t b_bytes,
                      const void *c, size_t c_bytes) {
    uint32_t head[2] = {tag, (uint32_t)(a_bytes + b_bytes + c_bytes)};
    put(w, head, sizeof head);
    put(w, a, a_bytes);
    put(w, b, b_bytes);
    put(w, c, c_bytes);
}

static void put_text(writer *w, uint32_t tag, const char *text) {
    put_field(w, tag, text, strlen(text), NULL, 0, NULL, 0);
}

sp_status spi_manifest_write(const spi_manifest *manifest, void **bytes, size_t *byte_count, sp_error *error) {
    const spi_record *record = &manifest->record;
    writer w = {0};
    limits all = {record->memory_bytes_max, record->deadline_ms, record->failures_max};
    put(&w, MAGIC, MAGIC_BYTES);
    put_text(&w, TAG_NAME, record->name);
    put_text(&w, TAG_DEVICE, record->device);
    put_field(&w, TAG_ENVIRONMENT, record->environment, record->environment_bytes, NULL, 0, NULL, 0);
    put_field(&w, TAG_LIMITS, &all, sizeof all, NULL, 0, NULL, 0);
    if (record->kv_type) {
        uint32_t kv_type = (uint32_t)record->kv_type;
        put_field(&w, TAG_KV_TYPE, &kv_type, sizeof kv_type, NULL, 0, NULL, 0);
    }
    for (uint32_t i = 0; i < record->model_count; i++) {
        const char *name = record->models[i].name, *path = record->models[i].path;
        put_field(&w, TAG_MODEL, name, strlen(name) + 1, path, strlen(path), NULL, 0);
    }
    for (size_t i = 0; i < manifest->mail_count; i++) {
        const spi_mail *mail = &manifest->mail[i];
        mail_head head = {mail->reply_to, mail->sent_ms, mail->kind, mail->failures};
        put_field(&w, TAG_MAIL, &head, sizeof head, mail->sender_name, strlen(mail->sender_name) + 1, mail->text,
                  mail->text_bytes);
    }
    for (size_t i = 0; i < manifest->timer_count; i++) {
        const spi_manifest_timer *timer = &manifest->timers[i];
        put_field(&w, TAG_TIMER, &timer->due_ms, sizeof timer->due_ms, timer->note, timer->note_bytes, NULL, 0);
    }
    *bytes = NULL;
    *byte_count = 0;
    bool is_too_much = w.count > SPI_MANIFEST_BYTES_MAX || manifest->mail_count > SPI_MANIFEST_MAIL_MAX ||
                       manifest->timer_count > SPI_MANIFEST_TIMERS_MAX;
    if (w.has_failed || is_too_much) {
        spi_free(w.bytes);
        return w.has_failed
                   ? spi_fail(error, SP_NO_MEMORY, "no memory for an actor's manifest")
                   : spi_fail(error, SP_LIMIT,
                              "%s has more unread mail or timers than a file carries: let it read them", record->name);
    }
    *bytes = w.bytes;
    *byte_count = w.count;
    return SP_OK;
}

/* ---- reading ---- */

typedef struct field {
    uint32_t tag;
    const char *bytes;
    size_t count;
} field;

static sp_status bad(sp_error *error, const char *what) {
    return spi_fail(error, SP_BAD_FILE, "the actor's manifest is damaged: %s", what);
}

static sp_status out_of_memory(sp_error *error) {
    return spi_fail(error, SP_NO_MEMORY, "no memory for an actor's manifest");
}

/* A text without zero bytes. */
static sp_status read_text(const field *f, char **text, sp_error *error) {
    if (*text || memchr(f->bytes, 0, f->count)) {
        return bad(error, "a text is there twice or has a zero byte in it");
    }
    *text = spi_copy_string(f->bytes, f->count);
    return *text ? SP_OK : out_of_memory(error);
}

static sp_status read_name(const field *f, char *name, size_t capacity, sp_error *error) {
    if (*name || f->count >= capacity || memchr(f->bytes, 0, f->count)) {
        return bad(error, "a name is too long");
    }
    memcpy(name, f->bytes, f->count);
    return SP_OK;
}

static sp_status read_environment(const field *f, spi_record *record, sp_error *error) {
    if (record->environment || (f->count && f->bytes[f->count - 1])) {
        return bad(error, "the environment does not end in a zero byte");
    }
    record->environment = spi_copy_string(f->bytes, f->count);
    record->environment_bytes = f->count;
    return record->environment ? SP_OK : out_of_memory(error);
}

static sp_status read_limits(const field *f, spi_record *record, sp_error *error) {
    limits all;
    if (f->count != sizeof all) {
        return bad(error, "the limits have another length");
    }
    memcpy(&all, f->bytes, sizeof all);
    record->memory_bytes_max = all.memory_bytes_max;
    record->deadline_ms = all.deadline_ms;
    record->failures_max = all.failures_max;
    return SP_OK;
}

static sp_status read_kv_type(const field *f, spi_record *record, sp_error *error) {
    uint32_t kv_type = 0;
    memcpy(&kv_type, f->bytes, f->count < sizeof kv_type ? f->count : sizeof kv_type);
    if (f->count != sizeof kv_type || (kv_type != SP_KV_F16 && kv_type != SP_KV_Q8_0)) {
        return bad(error, "keys and values are of no type that there is");
    }
    record->kv_type = (sp_kv_type)kv_type;
    return SP_OK;
}

static sp_status read_model(const field *f, spi_record *record, sp_error *error) {
    const char *zero = memchr(f->bytes, 0, f->count);
    size_t path_bytes = zero ? f->count - (size_t)(zero + 1 - f->bytes) : 0;
    if (record->model_count == SPI_MODELS_MAX || !path_bytes || memchr(zero + 1, 0, path_bytes)) {
        return bad(error, "a model is not a name and a path, or there are too many");
    }
    uint32_t i = record->model_count++;
    record->models[i].name = spi_copy_string(f->bytes, (size_t)(zero - f->bytes));
    record->models[i].path = spi_copy_string(zero + 1, path_bytes);
    return record->models[i].name && record->models[i].path ? SP_OK : out_of_memory(error);
}

static sp_status read_mail(const field *f, spi_manifest *manifest, sp_error *error) {
    mail_head head;
    const char *rest = f->bytes + sizeof head;
    size_t rest_bytes = f->count >= sizeof head ? f->count - sizeof head : 0;
    const char *zero = rest_bytes ? memchr(rest, 0, rest_bytes) : NULL;
    if (!zero || zero - rest > SP_ACTOR_NAME_BYTES_MAX || manifest->mail_count == SPI_MANIFEST_MAIL_MAX) {
        return bad(error, "a message has no sender, or there are too many");
    }
    memcpy(&head, f->bytes, sizeof head);
    size_t text_bytes = rest_bytes - (size_t)(zero + 1 - rest);
    if (text_bytes > SP_ACTOR_TEXT_BYTES_MAX || head.kind > 4) {
        return bad(error, "a message is too long, or of no kind");
    }
    if (!SPI_RESERVE(manifest->mail, manifest->mail_count, manifest->mail_capacity)) {
        return out_of_memory(error);
    }
    spi_mail *mail = &manifest->mail[manifest->mail_count];
    *mail = (spi_mail){.reply_to = head.reply_to,
                       .sent_ms = head.sent_ms,
                       .kind = head.kind,
                       .failures = head.failures,
                       .text = spi_copy_string(zero + 1, text_bytes),
                       .text_bytes = text_bytes};
    memcpy(mail->sender_name, rest, (size_t)(zero - rest));
    manifest->mail_count += mail->text != NULL;
    return mail->text ? SP_OK : out_of_memory(error);
}

static sp_status read_timer(const field *f, spi_manifest *manifest, sp_error *error) {
    uint64_t due_ms;
    if (f->count < sizeof due_ms || f->count - sizeof due_ms > 255 ||
        manifest->timer_count == SPI_MANIFEST_TIMERS_MAX) {
        return bad(error, "a timer has another length, or there are too many");
    }
    if (!SPI_RESERVE(manifest->timers, manifest->timer_count, manifest->timer_capacity)) {
        return out_of_memory(error);
    }
    spi_manifest_timer *timer = &manifest->timers[manifest->timer_count];
    memcpy(&due_ms, f->bytes, sizeof due_ms);
    timer->due_ms = due_ms;
    timer->note_bytes = f->count - sizeof due_ms;
    timer->note = spi_copy_string(f->bytes + sizeof due_ms, timer->note_bytes);
    manifest->timer_count += timer->note != NULL;
    return timer->note ? SP_OK : out_of_memory(error);
}

static sp_status read_field(const field *f, spi_manifest *manifest, sp_error *error) {
    spi_record *record = &manifest->record;
    switch (f->tag) {
    case TAG_NAME: return read_name(f, record->name, sizeof record->name, error);
    case TAG_DEVICE: return read_text(f, &record->device, error);
    case TAG_ENVIRONMENT: return read_environment(f, record, error);
    case TAG_LIMITS: return read_limits(f, record, error);
    case TAG_MODEL: return read_model(f, record, error);
    case TAG_MAIL: return read_mail(f, manifest, error);
    case TAG_TIMER: return read_timer(f, manifest, error);
    case TAG_KV_TYPE: return read_kv_type(f, record, error);
    default:
        return f->tag & TAG_NEEDED ? spi_fail(error, SP_UNSUPPORTED,
                                              "the actor was exported by a newer samepage, which this one does not "
                                              "understand")
                                   : SP_OK;
    }
}

sp_status spi_manifest_read(const void *bytes, size_t byte_count, spi_manifest *manifest, sp_error *error) {
    const char *at = bytes, *end = at + byte_count;
    *manifest = (spi_manifest){0};
    if (byte_count < MAGIC_BYTES || memcmp(at, MAGIC, MAGIC_BYTES) != 0) {
        return spi_fail(error, SP_BAD_FILE, "the file is a snapshot, but not of an actor: it has no manifest");
    }
    sp_status status = SP_OK;
    for (at += MAGIC_BYTES; at < end && !status;) {
        uint32_t head[2];
        if ((size_t)(end - at) < sizeof head) {
            status = bad(error, "it ends within a field");
            break;
        }
        memcpy(head, at, sizeof head);
        at += sizeof head;
        if (head[1] > (size_t)(end - at)) {
            status = bad(error, "a field is longer than the rest");
            break;
        }
        status = read_field(&(field){.tag = head[0], .bytes = at, .count = head[1]}, manifest, error);
        at += head[1];
    }
    if (!status && (!*manifest->record.name || !manifest->record.device || !manifest->record.environment)) {
        status = bad(error, "the name, device or environment is missing");
    }
    if (status) {
        spi_manifest_free(manifest);
    }
    return status;
}
