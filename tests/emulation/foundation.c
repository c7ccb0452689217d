/* tests/emulation/foundation.c - the few classes of Foundation that the backend uses. */
#include <stdlib.h>
#include <string.h>

#include "emulation/objects.h"

typedef struct failure {
    int64_t code;
} failure;

static const char *utf8(object *self, spi_mt_selector selector) {
    (void)selector;
    return self->data;
}

static const emu_method string_methods[] = {METHOD(utf8, utf8), NO_MORE};
const emu_class emu_NSString = {"NSString", string_methods, NULL};

object *emu_string(const char *text) {
    object *self = emu_make_always(&emu_NSString, strlen(text) + 1);
    strcpy(self->data, text);
    return self;
}

const char *emu_text_of(const object *string) {
    return emu_is(string, &emu_NSString, "a text") ? string->data : "";
}

static object *description(object *self, spi_mt_selector selector) {
    (void)selector;
    return self->held[0];
}

static int64_t code(object *self, spi_mt_selector selector) {
    (void)selector;
    return ((failure *)self->data)->code;
}

static const emu_method error_methods[] = {METHOD(description, description), METHOD(code, code), NO_MORE};
static const emu_class emu_NSError = {"NSError", error_methods, NULL};

void emu_set_error(object **error, int64_t number, const char *text) {
    if (error) {
        object *self = emu_make_always(&emu_NSError, sizeof(failure));
        ((failure *)self->data)->code = number;
        self->held[0] = emu_string(text);
        *error = emu_give_to_pool(self);
    }
}

/* A URL is its path, an array its one element. */
static const emu_method no_methods[] = {NO_MORE};
static const emu_class emu_NSURL = {"NSURL", no_methods, NULL};
static const emu_class emu_NSArray = {"NSArray", no_methods, NULL};

static object *string_of(object *self, spi_mt_selector selector, const char *text) {
    (void)self;
    (void)selector;
    return emu_give_to_pool(emu_string(text));
}

static object *box(const emu_class *is, object *content) {
    object *self = emu_make_always(is, 0);
    emu_hold(self, 0, content);
    return emu_give_to_pool(self);
}

static object *file_url(object *self, spi_mt_selector selector, object *path) {
    (void)self;
    (void)selector;
    return emu_is(path, &emu_NSString, "a path") ? box(&emu_NSURL, path) : NULL;
}

static object *array_of(object *self, spi_mt_selector selector, object *element) {
    (void)self;
    (void)selector;
    return box(&emu_NSArray, element);
}

static const emu_method string_class[] = {METHOD(string_of, string_of), NO_MORE};
static const emu_method url_class[] = {METHOD(file_url, file_url), NO_MORE};
static const emu_method array_class[] = {METHOD(array_of, array_of), NO_MORE};
static const emu_class classes[] = {
    {"NSString", string_class, NULL}, {"NSURL", url_class, NULL}, {"NSArray", array_class, NULL}};

object emu_foundation_classes[] = {{.is = &classes[0], .magic = OBJECT_LIVE, .is_class = true},
                                   {.is = &classes[1], .magic = OBJECT_LIVE, .is_class = true},
                                   {.is = &classes[2], .magic = OBJECT_LIVE, .is_class = true},
                                   {0}};
