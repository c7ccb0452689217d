/* tests/emulation/commands.c - queues, command buffers, encoders and events of the stand-in.
 *
 * A command buffer runs when somebody waits for it, not when it is committed: who reads results before they are there,
 * or writes parameters behind a commit, is seen at once. Dispatches between two barriers run in an order of their own,
 * since an encoder for concurrent dispatches promises none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation/objects.h"

#define PENDING_MAX 16

typedef struct binding {
    object *buffer;
    uint64_t offset;
    uint8_t bytes[SPI_MT_INLINE_BYTES_MAX / 16];
    uint32_t byte_count; /* of what was given inline; 0: a buffer, or nothing */
} binding;

typedef struct call {
    object *pipeline;
    binding bindings[EMU_BUFFERS];
    uint32_t groups[3], threads[3];
    bool behind_barrier;
} call;

typedef struct commands {
    call *calls;
    uint32_t count, capacity;
    object *event; /* to be signalled at the end */
    uint64_t event_value;
    uint64_t status;
    bool has_open_encoder;
    char failure[200];
} commands;

typedef struct encoder {
    call next;
    bool is_ended;
} encoder;

static object *pending[PENDING_MAX];
static int pending_count;

static commands *commands_of(const object *self) {
    return self->data;
}

/* The encoder, if it still takes messages. */
static encoder *open_encoder(object *self) {
    encoder *data = self->data;
    if (data->is_ended) {
        emu_break("an encoder is used after endEncoding");
        return NULL;
    }
    return data;
}

static void set_pipeline(object *self, spi_mt_selector selector, object *pipeline) {
    (void)selector;
    encoder *to = open_encoder(self);
    if (to && emu_is(pipeline, &emu_MTLComputePipelineState, "a pipeline")) {
        to->next.pipeline = pipeline;
    }
}

static void set_buffer(object *self, spi_mt_selector selector, object *buffer, uint64_t offset, uint64_t index) {
    (void)selector;
    encoder *to = open_encoder(self);
    if (!to || !emu_is(buffer, &emu_MTLBuffer, "a bound buffer")) {
        return;
    }
    if (index > SPI_MT_BUFFER_INDEX_MAX || offset % 4 || offset >= ((emu_buffer *)buffer->data)->bytes) {
        emu_break("setBuffer: offset %llu at index %llu", (unsigned long long)offset, (unsigned long long)index);
        return;
    }
    to->next.bindings[index].buffer = buffer;
    to->next.bindings[index].offset = offset;
    to->next.bindings[index].byte_count = 0;
}

static void set_bytes(object *self, spi_mt_selector selector, const void *bytes, uint64_t count, uint64_t index) {
    (void)selector;
    encoder *to = open_encoder(self);
    if (!to) {
        return;
    }
    if (index > SPI_MT_BUFFER_INDEX_MAX || !count || count > sizeof to->next.bindings[0].bytes) {
        emu_break("setBytes: %llu bytes at index %llu", (unsigned long long)count, (unsigned long long)index);
        return;
    }
    binding *at = &to->next.bindings[index];
    memcpy(at->bytes, bytes, (size_t)count);
    at->byte_count = (uint32_t)count;
    at->buffer = NULL;
}

static void memory_barrier(object *self, spi_mt_selector selector, uint64_t scope) {
    (void)selector;
    encoder *to = open_encoder(self);
    if (to && scope == SPI_MT_BARRIER_BUFFERS) {
        to->next.behind_barrier = true;
        emu_counting.barriers++;
    } else if (to) {
        emu_break("memoryBarrierWithScope: %llu", (unsigned long long)scope);
    }
}

/* Every argument of the kernel has to be bound, and to something long enough. */
static bool check_arguments(const call *of, const emu_kernel *kernel) {
    for (uint32_t i = 0; i < EMU_BUFFERS; i++) {
        const binding *at = &of->bindings[i];
        if (kernel->buffers >> i & 1 && !at->buffer && !at->byte_count) {
            emu_break("kernel %s: nothing is bound at buffer(%u)", kernel->name, i);
            return false;
        }
        if (at->buffer && kernel->alignment[i] && at->offset % kernel->alignment[i]) {
            emu_break("kernel %s: offset %llu at buffer(%u), whose elements are aligned to %u", kernel->name,
                      (unsigned long long)at->offset, i, kernel->alignment[i]);
            return false;
        }
        if (at->byte_count && at->byte_count < kernel->inline_bytes[i]) {
            emu_break("kernel %s: %u bytes at buffer(%u), %u are read", kernel->name, at->byte_count, i,
                      kernel->inline_bytes[i]);
            return false;
        }
    }
    return true;
}

static void dispatch_groups(object *self, spi_mt_selector selector, spi_mt_size groups, spi_mt_size threads) {
    (void)selector;
    encoder *from = open_encoder(self);
    if (!from) {
        return;
    }
    if (!from->next.pipeline) {
        emu_break("a dispatch without a pipeline");
        return;
    }
    uint64_t count = threads.width * threads.height * threads.depth;
    if (!count || count > 1024 || !groups.width || !groups.height || !groups.depth || groups.width > UINT32_MAX ||
        groups.height > UINT32_MAX || groups.depth > UINT32_MAX) {
        emu_break("a dispatch of %llu threads, or of no groups", (unsigned long long)count);
        return;
    }
    if (!check_arguments(&from->next, ((emu_pipeline *)from->next.pipeline->data)->kernel)) {
        return;
    }
    commands *to = commands_of(self->held[0]);
    if (to->count == to->capacity) {
        to->capacity = to->capacity ? 2 * to->capacity : 64;
        to->calls = realloc(to->calls, to->capacity * sizeof *to->calls);
        if (!to->calls) {
            abort();
        }
    }
    from->next.groups[0] = (uint32_t)groups.width;
    from->next.groups[1] = (uint32_t)groups.height;
    from->next.groups[2] = (uint32_t)groups.depth;
    from->next.threads[0] = (uint32_t)threads.width;
    from->next.threads[1] = (uint32_t)threads.height;
    from->next.threads[2] = (uint32_t)threads.depth;
    to->calls[to->count++] = from->next;
    from->next.behind_barrier = false;
}

static void end_encoding(object *self, spi_mt_selector selector) {
    (void)selector;
    encoder *data = open_encoder(self);
    if (data) {
        data->is_ended = true;
        commands_of(self->held[0])->has_open_encoder = false;
    }
}

static void finish_encoder(object *self) {
    if (!((encoder *)self->data)->is_ended) {
        emu_break("an encoder is released without endEncoding");
    }
}

static const emu_method encoder_methods[] = {METHOD(set_pipeline, set_pipeline),
                                             METHOD(set_buffer, set_buffer),
                                             METHOD(set_bytes, set_bytes),
                                             METHOD(memory_barrier, memory_barrier),
                                             METHOD(dispatch_groups, dispatch_groups),
                                             METHOD(end_encoding, end_encoding),
                                             NO_MORE};
static const emu_class emu_MTLComputeCommandEncoder = {"MTLComputeCommandEncoder", encoder_methods, finish_encoder};

/* Runs one dispatch; false: it did what a device would not forgive. */
static bool run_call(const call *one, emu_order order, char *failure, size_t capacity) {
    emu_pipeline *pipeline = one->pipeline->data;
    const emu_kernel *kernel = pipeline->kernel;
    if (!emu_is(one->pipeline, &emu_MTLComputePipelineState, "the pipeline of a run")) {
        return false;
    }
    for (uint32_t i = 0; i < EMU_BUFFERS; i++) {
        const binding *at = &one->bindings[i];
        emu_bounds[i] = (emu_bound){0};
        if (at->byte_count) {
            emu_bounds[i] = (emu_bound){(uint8_t *)(uintptr_t)at->bytes, at->byte_count};
        } else if (at->buffer && kernel->buffers >> i & 1) {
            if (!emu_is(at->buffer, &emu_MTLBuffer, "the buffer of a run")) {
                return false;
            }
            const emu_buffer *buffer = at->buffer->data;
            emu_bounds[i] = (emu_bound){buffer->base + at->offset, buffer->bytes - at->offset};
        }
    }
    memcpy(kernel->constant_values, pipeline->constants, sizeof pipeline->constants);
    emu_report report;
    emu_run(kernel, one->groups, one->threads, order, &report);
    emu_counting.dispatches++;
    if (report.text[0]) {
        emu_break("%s", report.text);
        snprintf(failure, capacity, "%s", report.text);
    }
    return !report.text[0];
}

/* The dispatches of first .. end, between which there is no barrier, in any order. */
static bool run_unordered(const commands *all, uint32_t first, uint32_t end, emu_order order, char *failure,
                          size_t capacity) {
    static uint32_t seed = 7;
    uint32_t count = end - first, step = 1, start = 0;
    if (order == EMU_REVERSE) {
        step = count - 1 ? count - 1 : 1; /* from the last one down, modulo count */
        start = count - 1;
    } else if (order == EMU_SHUFFLED) {
        seed = seed * 1664525u + 1013904223u;
        start = (seed >> 8) % count;
    }
    bool good = true;
    for (uint32_t i = 0; i < count && good; i++) {
        good = run_call(&all->calls[first + (start + (uint64_t)i * step) % count], order, failure, capacity);
    }
    return good;
}

static void run_commands(object *self) {
    commands *all = commands_of(self);
    bool good = true;
    int64_t failing = emu_get_settings()->fail_run;
    if (failing) {
        emu_get_settings()->fail_run = 0;
        emu_counting.failures++;
        snprintf(all->failure, sizeof all->failure, "injected failure %lld", (long long)failing);
        all->status = SPI_MT_STATUS_ERROR;
        all->event_value = (uint64_t)failing; /* kept for the error's code */
        return;
    }
    for (uint32_t first = 0; first < all->count && good;) {
        uint32_t end = first + 1;
        while (end < all->count && !all->calls[end].behind_barrier) {
            end++;
        }
        good =
            run_unordered(all, first, end, *(const emu_order *)self->held[0]->data, all->failure, sizeof all->failure);
        first = end;
    }
    all->status = good ? SPI_MT_STATUS_COMPLETED : SPI_MT_STATUS_ERROR;
    if (good && all->event) {
        uint64_t *value = all->event->data;
        *value = all->event_value;
    } else if (!good) {
        all->event_value = 3; /* MTLCommandBufferErrorPageFault */
    }
}

static void run_pending(void) {
    for (int i = 0; i < pending_count; i++) {
        run_commands(pending[i]);
        emu_let_go(pending[i]);
    }
    pending_count = 0;
}

static object *compute_encoder(object *self, spi_mt_selector selector, uint64_t type) {
    (void)selector;
    if (type != SPI_MT_DISPATCH_CONCURRENT || commands_of(self)->has_open_encoder) {
        emu_break("a second encoder is open, or one of a type that nothing of ours uses");
    }
    object *made = emu_make(&emu_MTLComputeCommandEncoder, sizeof(encoder));
    if (made) {
        emu_hold(made, 0, self);
        commands_of(self)->has_open_encoder = true;
        emu_give_to_pool(made);
    }
    return made;
}

static void signal_event(object *self, spi_mt_selector selector, object *event, uint64_t value) {
    (void)selector;
    commands *to = commands_of(self);
    if (to->has_open_encoder) {
        emu_break("encodeSignalEvent while an encoder is open");
    }
    if (emu_is(event, &emu_MTLSharedEvent, "an event")) {
        to->event = event;
        to->event_value = value;
    }
}

static void commit(object *self, spi_mt_selector selector) {
    (void)selector;
    commands *all = commands_of(self);
    if (all->has_open_encoder) {
        emu_break("commit without endEncoding");
    } else if (all->status || pending_count == PENDING_MAX) {
        emu_break("commit of a command buffer that was committed, or of very many");
    } else {
        all->status = 2; /* MTLCommandBufferStatusCommitted */
        emu_counting.command_buffers++;
        pending[pending_count++] = emu_retain(self);
    }
}

static void wait_completed(object *self, spi_mt_selector selector) {
    (void)selector;
    if (!commands_of(self)->status) {
        emu_break("waitUntilCompleted before commit");
    }
    run_pending();
}

static uint64_t status(object *self, spi_mt_selector selector) {
    (void)selector;
    return commands_of(self)->status;
}

static object *error(object *self, spi_mt_selector selector) {
    (void)selector;
    object *made = NULL;
    if (commands_of(self)->status == SPI_MT_STATUS_ERROR) {
        emu_set_error(&made, (int64_t)commands_of(self)->event_value, commands_of(self)->failure);
    }
    return made;
}

static void finish_commands(object *self) {
    free(commands_of(self)->calls);
}

static const emu_method commands_methods[] = {METHOD(compute_encoder, compute_encoder),
                                              METHOD(signal_event, signal_event),
                                              METHOD(commit, commit),
                                              METHOD(wait_completed, wait_completed),
                                              METHOD(status, status),
                                              METHOD(error, error),
                                              NO_MORE};
static const emu_class emu_MTLCommandBuffer = {"MTLCommandBuffer", commands_methods, finish_commands};

static object *command_buffer(object *self, spi_mt_selector selector) {
    (void)selector;
    object *made = emu_make(&emu_MTLCommandBuffer, sizeof(commands));
    if (made) {
        emu_hold(made, 0, self);
        emu_give_to_pool(made);
    }
    return made;
}

static void add_residency_set(object *self, spi_mt_selector selector, object *set) {
    (void)selector;
    if (emu_is(set, &emu_MTLResidencySet, "a residency set")) {
        emu_hold(self, 1, set);
    }
}

static const emu_method queue_methods[] = {METHOD(command_buffer, command_buffer),
                                           METHOD(add_residency_set, add_residency_set), NO_MORE};
const emu_class emu_MTLCommandQueue = {"MTLCommandQueue", queue_methods, NULL};

object *emu_new_queue(emu_order order) {
    object *made = emu_make(&emu_MTLCommandQueue, sizeof order);
    if (made) {
        *(emu_order *)made->data = order;
    }
    return made;
}

static uint64_t signaled_value(object *self, spi_mt_selector selector) {
    (void)selector;
    return *(uint64_t *)self->data;
}

static bool wait_signaled(object *self, spi_mt_selector selector, uint64_t value, uint64_t timeout_ms) {
    (void)selector;
    (void)timeout_ms;
    if (emu_get_settings()->slow_waits > 0) {
        emu_get_settings()->slow_waits--;
        return false;
    }
    run_pending();
    return *(uint64_t *)self->data >= value;
}

static const emu_method event_methods[] = {METHOD(signaled_value, signaled_value), METHOD(wait_signaled, wait_signaled),
                                           NO_MORE};
const emu_class emu_MTLSharedEvent = {"MTLSharedEvent", event_methods, NULL};

object *emu_new_event(void) {
    return emu_make(&emu_MTLSharedEvent, sizeof(uint64_t));
}
