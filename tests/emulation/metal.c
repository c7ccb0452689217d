/* tests/emulation/metal.c - a stand-in for Metal's device and what it makes: buffers, libraries, pipelines, archives.
 *
 * The compiler knows the texts that were translated when it was built, by their hash, and no others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "emulation/objects.h"

#define EXPORT          __attribute__((visibility("default"), used))
#define PROBES          1024
#define ARCHIVE_ENTRIES 256
#define FILL            0xa5 /* what new buffers hold: nobody promised zeros */

/* Buffers. */
static void *contents(object *self, spi_mt_selector selector) {
    (void)selector;
    return ((emu_buffer *)self->data)->base;
}

static void finish_buffer(object *self) {
    const emu_buffer *buffer = self->data;
    if (!buffer->is_over) {
        free(buffer->base);
    }
}

static const emu_method buffer_methods[] = {METHOD(contents, contents), NO_MORE};
const emu_class emu_MTLBuffer = {"MTLBuffer", buffer_methods, finish_buffer};

static object *new_buffer(object *self, spi_mt_selector selector, uint64_t bytes, uint64_t options) {
    (void)self;
    (void)selector;
    if (!bytes || bytes > emu_get_settings()->buffer_length_max || options != SPI_MT_STORAGE_SHARED) {
        emu_break("newBufferWithLength: %llu bytes, options %llu", (unsigned long long)bytes,
                  (unsigned long long)options);
        return NULL;
    }
    object *made = emu_make(&emu_MTLBuffer, sizeof(emu_buffer));
    if (made) {
        emu_buffer *buffer = made->data;
        uint64_t pages = (bytes + SPI_MT_PAGE_BYTES - 1) / SPI_MT_PAGE_BYTES;
        /* Exactly as many bytes as were asked for, so that the address sanitizer sees the end. */
        if (posix_memalign((void **)&buffer->base, 256, (size_t)bytes) || !pages) {
            abort();
        }
        memset(buffer->base, FILL, (size_t)bytes);
        buffer->bytes = bytes;
    }
    return made;
}

/* Whether the system lets this process read every page: pages without access have to be nobody's buffer. */
static bool is_readable(const uint8_t *base, uint64_t bytes) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    static uint8_t to[PROBES];
    struct iovec local[PROBES], remote[PROBES];
    for (uint64_t at = 0; at < bytes;) {
        unsigned long count = 0;
        for (; count < PROBES && at < bytes; count++, at += page) {
            local[count] = (struct iovec){&to[count], 1};
            remote[count] = (struct iovec){(void *)(uintptr_t)(base + at), 1};
        }
        if (process_vm_readv(getpid(), local, count, remote, count, 0) != (ssize_t)count) {
            return false;
        }
    }
    return true;
}

static object *new_buffer_over(object *self, spi_mt_selector selector, void *base, uint64_t bytes, uint64_t options,
                               object *deallocator) {
    (void)self;
    (void)selector;
    if ((uintptr_t)base % SPI_MT_PAGE_BYTES || bytes % SPI_MT_PAGE_BYTES || !bytes) {
        emu_break("newBufferWithBytesNoCopy: %llu bytes at %p are not whole pages", (unsigned long long)bytes, base);
        return NULL;
    }
    if (bytes > emu_get_settings()->buffer_length_max || options != SPI_MT_STORAGE_SHARED || deallocator) {
        emu_break("newBufferWithBytesNoCopy: too long, or an option that nothing of ours uses");
        return NULL;
    }
    if (!is_readable(base, bytes)) {
        emu_break("newBufferWithBytesNoCopy: a page of %llu bytes at %p cannot be read", (unsigned long long)bytes,
                  base);
        return NULL;
    }
    object *made = emu_make(&emu_MTLBuffer, sizeof(emu_buffer));
    if (made) {
        *(emu_buffer *)made->data = (emu_buffer){base, bytes, true};
        emu_counting.buffers_over++;
    }
    return made;
}

/* Compile options, function constants, descriptors: objects that only hold what was set. */
typedef struct options {
    bool fast_math;
    uint64_t language;
} options;

static void set_fast_math(object *self, spi_mt_selector selector, bool on) {
    (void)selector;
    ((options *)self->data)->fast_math = on;
}

static void set_language(object *self, spi_mt_selector selector, uint64_t version) {
    (void)selector;
    ((options *)self->data)->language = version;
}

static const emu_method options_methods[] = {METHOD(set_fast_math, set_fast_math), METHOD(set_language, set_language),
                                             NO_MORE};
static const emu_class emu_MTLCompileOptions = {"MTLCompileOptions", options_methods, NULL};

typedef struct constants {
    emu_constant values[EMU_CONSTANTS];
} constants;

static void set_constant(object *self, spi_mt_selector selector, const void *value, uint64_t type, uint64_t index) {
    (void)selector;
    if (type != SPI_MT_DATA_UINT || index >= EMU_CONSTANTS) {
        emu_break("setConstantValue: type %llu at %llu", (unsigned long long)type, (unsigned long long)index);
        return;
    }
    emu_constant *to = &((constants *)self->data)->values[index];
    to->is_set = true;
    memcpy(&to->value, value, sizeof to->value);
}

static const emu_method constants_methods[] = {METHOD(set_constant, set_constant), NO_MORE};
static const emu_class emu_MTLFunctionConstantValues = {"MTLFunctionConstantValues", constants_methods, NULL};

/* Libraries and functions; a function's data are those of the pipeline that will be made of it. */
static const emu_method function_methods[] = {NO_MORE};
static const emu_class emu_MTLFunction = {"MTLFunction", function_methods, NULL};

static object *new_function(object *self, spi_mt_selector selector, object *name, object *given, object **error) {
    (void)selector;
    const emu_kernel *kernel = *(const emu_kernel **)self->data;
    if (strcmp(emu_text_of(name), "main0") != 0 || !emu_is(given, &emu_MTLFunctionConstantValues, "constantValues")) {
        emu_set_error(error, 1, "there is no such function");
        return NULL;
    }
    object *made = emu_make(&emu_MTLFunction, sizeof(emu_pipeline));
    if (!made) {
        emu_set_error(error, 1, "no memory for a function");
        return NULL;
    }
    emu_pipeline *pipeline = made->data;
    pipeline->kernel = kernel;
    memcpy(pipeline->constants, ((constants *)given->data)->values, sizeof pipeline->constants);
    emu_hold(made, 0, self);
    return made;
}

static const emu_method library_methods[] = {METHOD(new_function, new_function), NO_MORE};
static const emu_class emu_MTLLibrary = {"MTLLibrary", library_methods, NULL};

static object *new_library(object *self, spi_mt_selector selector, object *text, object *given, object **error) {
    (void)self;
    (void)selector;
    const options *set = emu_is(given, &emu_MTLCompileOptions, "options") ? given->data : NULL;
    if (set && (set->fast_math || set->language != SPI_MT_LANGUAGE_2_3)) {
        emu_break("a library with fast math or another language is not what is computed here");
    }
    uint64_t hash = emu_hash(emu_text_of(text));
    const emu_kernel *kernel = NULL;
    for (uint32_t i = 0; i < emu_kernel_count; i++) {
        kernel = emu_kernels[i]->text_hash == hash ? emu_kernels[i] : kernel;
    }
    if (!kernel || emu_get_settings()->fail_compiler) {
        emu_set_error(error, 3, "program_source:1:1: error: nobody has translated this text\nand more lines");
        return NULL;
    }
    object *made = emu_make(&emu_MTLLibrary, sizeof kernel);
    if (made) {
        memcpy(made->data, &kernel, sizeof kernel);
    } else {
        emu_set_error(error, 1, "no memory for a library");
    }
    return made;
}

/* Archives: which kernels with which constants. A file is their numbers behind a word. */
typedef struct archive {
    uint64_t entries[ARCHIVE_ENTRIES];
    uint32_t count;
} archive;
static const char archive_word[8] = "EMUARCH";

static uint64_t entry_of(const emu_pipeline *pipeline) {
    return pipeline->kernel->text_hash ^ (pipeline->constants[0].value + 1) * 0x9e3779b97f4a7c15u;
}

static bool archive_has(const archive *in, uint64_t entry) {
    for (uint32_t i = 0; i < in->count; i++) {
        if (in->entries[i] == entry) {
            return true;
        }
    }
    return false;
}

static void set_held_0(object *self, spi_mt_selector selector, object *other) {
    (void)selector;
    emu_hold(self, 0, other);
}

static void set_held_1(object *self, spi_mt_selector selector, object *other) {
    (void)selector;
    emu_hold(self, 1, other);
}

static const emu_method archive_descriptor_methods[] = {METHOD(set_url, set_held_0), NO_MORE};
static const emu_class emu_MTLBinaryArchiveDescriptor = {"MTLBinaryArchiveDescriptor", archive_descriptor_methods,
                                                         NULL};
static const emu_method pipeline_descriptor_methods[] = {METHOD(set_function, set_held_0),
                                                         METHOD(set_archives, set_held_1), NO_MORE};
static const emu_class emu_MTLComputePipelineDescriptor = {"MTLComputePipelineDescriptor", pipeline_descriptor_methods,
                                                           NULL};

static bool archive_add(object *self, spi_mt_selector selector, object *descriptor, object **error) {
    (void)selector;
    archive *in = self->data;
    if (!emu_is(descriptor, &emu_MTLComputePipelineDescriptor, "descriptor") || in->count == ARCHIVE_ENTRIES) {
        emu_set_error(error, 1, "the archive is full");
        return false;
    }
    uint64_t entry = entry_of(descriptor->held[0]->data);
    if (!archive_has(in, entry)) {
        in->entries[in->count++] = entry;
    }
    return true;
}

static bool archive_write(object *self, spi_mt_selector selector, object *url, object **error) {
    (void)selector;
    const archive *in = self->data;
    FILE *file = fopen(emu_text_of(url->held[0]), "wb");
    bool good = file && fwrite(archive_word, sizeof archive_word, 1, file) == 1 &&
                fwrite(in->entries, sizeof in->entries[0], in->count, file) == in->count;
    good = file && !fclose(file) && good;
    if (!good) {
        emu_set_error(error, 1, "the file cannot be written");
    }
    return good;
}

static const emu_method archive_methods[] = {METHOD(archive_add, archive_add), METHOD(archive_write, archive_write),
                                             NO_MORE};
static const emu_class emu_MTLBinaryArchive = {"MTLBinaryArchive", archive_methods, NULL};

static object *new_archive(object *self, spi_mt_selector selector, object *descriptor, object **error) {
    (void)self;
    (void)selector;
    archive read = {0};
    const object *url = emu_is(descriptor, &emu_MTLBinaryArchiveDescriptor, "descriptor") ? descriptor->held[0] : NULL;
    if (url) {
        char word[sizeof archive_word] = {0};
        FILE *file = fopen(emu_text_of(url->held[0]), "rb");
        if (!file || fread(word, sizeof word, 1, file) != 1 || memcmp(word, archive_word, sizeof word) != 0) {
            emu_set_error(error, 1, "this is no archive");
            if (file) {
                fclose(file);
            }
            return NULL;
        }
        read.count = (uint32_t)fread(read.entries, sizeof read.entries[0], ARCHIVE_ENTRIES, file);
        fclose(file);
    }
    object *made = emu_make(&emu_MTLBinaryArchive, sizeof read);
    if (made) {
        memcpy(made->data, &read, sizeof read);
    }
    return made;
}

/* Pipelines. */
static uint64_t max_threads(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return 1024;
}

static uint64_t execution_width(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return emu_get_settings()->simd_width;
}

static const emu_method pipeline_methods[] = {METHOD(max_threads, max_threads),
                                              METHOD(execution_width, execution_width), NO_MORE};
const emu_class emu_MTLComputePipelineState = {"MTLComputePipelineState", pipeline_methods, NULL};

static object *new_pipeline(object *self, spi_mt_selector selector, object *descriptor, uint64_t set,
                            object **reflection, object **error) {
    (void)self;
    (void)selector;
    (void)reflection;
    if (!emu_is(descriptor, &emu_MTLComputePipelineDescriptor, "descriptor") ||
        !emu_is(descriptor->held[0], &emu_MTLFunction, "its function")) {
        return NULL;
    }
    const emu_pipeline *from = descriptor->held[0]->data;
    const object *in = descriptor->held[1] ? descriptor->held[1]->held[0] : NULL;
    bool is_there = in && archive_has(in->data, entry_of(from));
    if (set == SPI_MT_FAIL_ON_MISS && !is_there) {
        emu_set_error(error, 1, "the archive has no such function");
        return NULL;
    }
    emu_counting.archive_hits += is_there;
    if (from->kernel->threadgroup_bytes > emu_get_settings()->threadgroup_bytes_max) {
        emu_set_error(error, 1, "threadgroup memory exceeds the maximum");
        return NULL;
    }
    for (uint32_t i = 0; i < EMU_CONSTANTS; i++) {
        if (from->kernel->constants >> i & 1 && !from->constants[i].is_set) {
            emu_set_error(error, 1, "a function constant has no value");
            return NULL;
        }
    }
    object *made = emu_make(&emu_MTLComputePipelineState, sizeof *from);
    if (made) {
        memcpy(made->data, from, sizeof *from);
    } else {
        emu_set_error(error, 1, "no memory for a pipeline");
    }
    return made;
}

/* Residency sets hold what is added, and let go of it when that is committed. */
typedef struct residents {
    object **objects;
    uint32_t count, capacity;
    object **leaving;
    uint32_t leaving_count, leaving_capacity;
} residents;

static void append(object ***list, uint32_t *count, uint32_t *capacity, object *one) {
    if (*count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 16;
        *list = realloc(*list, *capacity * sizeof **list);
        if (!*list) {
            abort();
        }
    }
    (*list)[(*count)++] = one;
}

static void add_allocation(object *self, spi_mt_selector selector, object *buffer) {
    (void)selector;
    residents *set = self->data;
    if (emu_is(buffer, &emu_MTLBuffer, "an allocation")) {
        append(&set->objects, &set->count, &set->capacity, emu_retain(buffer));
        emu_counting.residents++;
    }
}

static void remove_allocation(object *self, spi_mt_selector selector, object *buffer) {
    (void)selector;
    residents *set = self->data;
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->objects[i] == buffer) {
            append(&set->leaving, &set->leaving_count, &set->leaving_capacity, buffer);
            set->objects[i] = set->objects[--set->count];
            emu_counting.residents--;
            return;
        }
    }
    emu_break("removeAllocation: it is not in the set");
}

static void commit_set(object *self, spi_mt_selector selector) {
    (void)selector;
    residents *set = self->data;
    while (set->leaving_count) {
        emu_let_go(set->leaving[--set->leaving_count]);
    }
}

static void request_residency(object *self, spi_mt_selector selector) {
    commit_set(self, selector);
}

static void finish_set(object *self) {
    residents *set = self->data;
    commit_set(self, NULL);
    while (set->count) {
        emu_let_go(set->objects[--set->count]);
    }
    free(set->objects);
    free(set->leaving);
}

static const emu_method set_methods[] = {METHOD(add_allocation, add_allocation),
                                         METHOD(remove_allocation, remove_allocation), METHOD(commit, commit_set),
                                         METHOD(request_residency, request_residency), NO_MORE};
const emu_class emu_MTLResidencySet = {"MTLResidencySet", set_methods, finish_set};
static const emu_method set_descriptor_methods[] = {NO_MORE};
static const emu_class emu_MTLResidencySetDescriptor = {"MTLResidencySetDescriptor", set_descriptor_methods, NULL};

static object *new_residency_set(object *self, spi_mt_selector selector, object *descriptor, object **error) {
    (void)self;
    (void)selector;
    (void)error;
    return emu_is(descriptor, &emu_MTLResidencySetDescriptor, "descriptor")
               ? emu_make(&emu_MTLResidencySet, sizeof(residents))
               : NULL;
}

/* The device. */
static object *device_name(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return emu_give_to_pool(emu_string("metal-emulated"));
}

static bool has_unified_memory(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return !emu_get_settings()->no_unified;
}

static bool supports_family(object *self, spi_mt_selector selector, int64_t family) {
    (void)self;
    (void)selector;
    return (family > 1000 && family <= emu_get_settings()->family) || family == SPI_MT_FAMILY_METAL3;
}

static uint64_t max_buffer_length(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return emu_get_settings()->buffer_length_max;
}

static object *new_queue(object *self, spi_mt_selector selector) {
    (void)selector;
    return emu_new_queue(*(const emu_order *)self->data);
}

static object *new_shared_event(object *self, spi_mt_selector selector) {
    (void)self;
    (void)selector;
    return emu_new_event();
}

static const emu_method device_methods[] = {METHOD(name, device_name),
                                            METHOD(has_unified_memory, has_unified_memory),
                                            METHOD(supports_family, supports_family),
                                            METHOD(max_buffer_length, max_buffer_length),
                                            METHOD(recommended_working_set, max_buffer_length),
                                            METHOD(new_queue, new_queue),
                                            METHOD(new_shared_event, new_shared_event),
                                            METHOD(new_buffer, new_buffer),
                                            METHOD(new_buffer_over, new_buffer_over),
                                            METHOD(new_library, new_library),
                                            METHOD(new_pipeline, new_pipeline),
                                            METHOD(new_archive, new_archive),
                                            METHOD(new_residency_set, new_residency_set),
                                            NO_MORE};
static const emu_class emu_MTLDevice = {"MTLDevice", device_methods, NULL};

EXPORT object *MTLCreateSystemDefaultDevice(void) {
    object *made = emu_get_settings()->no_device ? NULL : emu_make(&emu_MTLDevice, sizeof(emu_order));
    if (made) {
        *(emu_order *)made->data = emu_get_settings()->order;
    }
    return made;
}

/* Classes that objects are made of by "new". */
typedef struct made_by_new {
    const emu_class *is;
    size_t data_bytes;
} made_by_new;

static const made_by_new makers[] = {{&emu_MTLCompileOptions, sizeof(options)},
                                     {&emu_MTLFunctionConstantValues, sizeof(constants)},
                                     {&emu_MTLComputePipelineDescriptor, 0},
                                     {&emu_MTLBinaryArchiveDescriptor, 0},
                                     {&emu_MTLResidencySetDescriptor, 0}};
#define MAKERS (sizeof makers / sizeof makers[0])

static object *make_new(object *self, spi_mt_selector selector);
static const emu_method class_methods[] = {METHOD(make_new, make_new), NO_MORE};
static emu_class class_classes[MAKERS];
static object class_objects[MAKERS];

static object *make_new(object *self, spi_mt_selector selector) {
    (void)selector;
    const made_by_new *maker = &makers[self - class_objects];
    return emu_make(maker->is, maker->data_bytes);
}

object *emu_find_class(const char *name) {
    for (object *at = emu_foundation_classes; at->is; at++) {
        if (!strcmp(at->is->name, name)) {
            return at;
        }
    }
    for (size_t i = 0; i < MAKERS; i++) {
        if (!strcmp(makers[i].is->name, name)) {
            class_classes[i] = (emu_class){makers[i].is->name, class_methods, NULL};
            class_objects[i] = (object){.is = &class_classes[i], .magic = OBJECT_LIVE, .is_class = true};
            return &class_objects[i];
        }
    }
    return NULL;
}
