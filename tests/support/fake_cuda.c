/* tests/support/fake_cuda.c - see fake_cuda.h. The rules are those of docs.nvidia.com/cuda/cuda-driver-api and of
 * docs/links.md. Device memory is the host's, so that copies can be carried out; kernels are not. */
#include "support/fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "device/cuda/driver.h"
#include "device/cuda/kernels/args.h"
#include "device/cuda/kernels/decode_args.h"
#include "device/cuda/kernels/wide_args.h"

#define EXPORT     __attribute__((visibility("default")))
#define THINGS_MAX 8192
#define PAGE_BYTES ((size_t)2 << 20)
#define SHARED_MAX (227 << 10)

typedef enum thing_kind {
    NOTHING,
    CONTEXT,
    STREAM,
    EVENT,
    MODULE,
    FUNCTION_OF_MODULE,
    DEVICE_MEMORY,
    HOST_MEMORY,
    REGISTERED,
    RESERVED,
    HANDLE,
    MAPPED,
} thing_kind;

typedef struct thing {
    thing_kind kind;
    uintptr_t first;
    size_t bytes;
    const char *name; /* of a function */
    bool accessible;  /* MAPPED */
} thing;

typedef struct parameters {
    const char *prefix;
    size_t sizes[8];
} parameters;

/* What each kernel takes: reading so many bytes of each argument must be possible. */
static const parameters kernels[] = {
    {"fetch", {8, 8, sizeof(spi_cu_pieces)}},
    {"repack", {8, 8, sizeof(spi_cu_format), sizeof(spi_cu_matrix), 4}},
    {"normalise", {8, 8, 8, 4, 4, 4}},
    {"rope", {8, 8, 4, 4, 4, 4, 4}},
    {"kv_store", {8, 8, 4, 8, sizeof(spi_cu_kv)}},
    {"gate", {8, 8, 8, 4, 4, 4}},
    {"add", {8, 8, 4, 4, 4}},
    {"gather", {8, 8, 8, 4, 4}},
    {"pick_noted", {8, 8, 8, 4, 4}},
    {"pick", {8, 8, 4}},
    {"read_all", {8, 8}},
    {"embed_", {sizeof(spi_cu_matrix), 8, 4, 8, 4}},
    {"product", {sizeof(spi_cu_product)}},
    {"pack_acts", {8, 8, 4, 4}},
    {"matrix", {sizeof(spi_cu_product)}},
    {"wide", {sizeof(spi_cu_wide)}},
    {"norm_pack", {sizeof(spi_cu_pack)}},
    {"place_heads", {sizeof(spi_cu_heads)}},
    {"flash", {sizeof(spi_cu_flash)}},
    {"few", {sizeof(spi_cu_few)}},
    {"many", {sizeof(spi_cu_few)}},
    {"start", {sizeof(spi_cu_few)}},
    {"attention_rows", {sizeof(spi_cu_attention), 4}},
    {"attention", {sizeof(spi_cu_attention)}},
    {"decode", {sizeof(spi_cu_token)}},
    {"guest_", {8, 8, 8, 4, 4, 4}},
};

typedef struct counter {
    const char *name;
    long count;
} counter;

static thing things[THINGS_MAX];
static counter calls[64], launches[256];
static uintptr_t next_handle, current;
static int version, major, devices;
static const char *fail_function;
static long fail_count, failed;
static int fail_result;
static bool fails_on; /* not only once */
static char violation[256];

static void broken(const char *what) {
    if (!violation[0]) {
        snprintf(violation, sizeof violation, "%s", what);
    }
}

static void count_in(counter *counters, size_t capacity, const char *name) {
    for (size_t i = 0; i < capacity; i++) {
        if (!counters[i].name || !strcmp(counters[i].name, name)) {
            counters[i].name = name;
            counters[i].count++;
            return;
        }
    }
}

static long count_of(const counter *counters, size_t capacity, const char *name) {
    for (size_t i = 0; i < capacity && counters[i].name; i++) {
        if (!strcmp(counters[i].name, name)) {
            return counters[i].count;
        }
    }
    return 0;
}

/* Counts the call; nonzero if it is to fail. */
static int enter(const char *name, bool frees) {
    count_in(calls, sizeof calls / sizeof calls[0], name);
    bool meant = fail_function ? !strcmp(fail_function, name) : !frees;
    if (!meant || fail_count < 0 || (!fails_on && fail_count-- > 0)) {
        return 0;
    }
    failed++;
    return fail_result;
}
#define ENTER(frees)                                                                                                   \
    do {                                                                                                               \
        int result_ = enter(__func__, frees);                                                                          \
        if (result_) {                                                                                                 \
            return result_;                                                                                            \
        }                                                                                                              \
    } while (0)
#define NEED_CONTEXT()                                                                                                 \
    do {                                                                                                               \
        if (!current) {                                                                                                \
            broken("a call without a current context");                                                                \
            return 201;                                                                                                \
        }                                                                                                              \
    } while (0)

static thing *make(thing_kind kind, uintptr_t first, size_t bytes) {
    for (size_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == NOTHING) {
            things[i] = (thing){.kind = kind, .first = first ? first : ++next_handle, .bytes = bytes};
            return &things[i];
        }
    }
    broken("more things than the stand-in has room for");
    return &things[0];
}

static thing *find(thing_kind kind, uintptr_t first) {
    for (size_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == kind && things[i].first == first) {
            return &things[i];
        }
    }
    return NULL;
}

/* The thing that holds the address. */
static thing *holder(thing_kind kind, uintptr_t address) {
    for (size_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == kind && address >= things[i].first && address - things[i].first < things[i].bytes) {
            return &things[i];
        }
    }
    return NULL;
}

static bool overlaps(thing_kind kind, uintptr_t first, size_t bytes) {
    for (size_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == kind && first < things[i].first + things[i].bytes && things[i].first < first + bytes) {
            return true;
        }
    }
    return false;
}

static int drop(thing_kind kind, uintptr_t first, const char *what) {
    thing *found = find(kind, first);
    if (!found) {
        broken(what);
        return 1;
    }
    found->kind = NOTHING;
    return 0;
}

EXPORT void fake_cuda_reset(void) {
    memset(things, 0, sizeof things);
    memset(calls, 0, sizeof calls);
    memset(launches, 0, sizeof launches);
    memset(violation, 0, sizeof violation);
    next_handle = 0x1000;
    current = 0;
    version = 13000;
    major = 9;
    devices = 1;
    fail_count = -1;
    failed = 0;
}

EXPORT void fake_cuda_fail(const char *function, long count, int result) {
    fail_function = function;
    fail_count = count;
    fail_result = result;
    fails_on = false;
    failed = 0;
}

EXPORT void fake_cuda_fail_every(const char *function, int result) {
    fake_cuda_fail(function, 0, result);
    fails_on = true;
}

EXPORT long fake_cuda_failed(void) {
    return failed;
}

EXPORT void fake_cuda_set_version(int to) {
    version = to;
}

EXPORT void fake_cuda_set_major(int to) {
    major = to;
}

EXPORT void fake_cuda_set_devices(int count) {
    devices = count;
}

EXPORT long fake_cuda_live(void) {
    long count = 0;
    for (size_t i = 0; i < THINGS_MAX; i++) {
        count += things[i].kind != NOTHING && things[i].kind != FUNCTION_OF_MODULE;
    }
    return count;
}

EXPORT const char *fake_cuda_violation(void) {
    return violation[0] ? violation : NULL;
}

EXPORT long fake_cuda_calls(const char *function) {
    return count_of(calls, sizeof calls / sizeof calls[0], function);
}

EXPORT long fake_cuda_launches(const char *kernel) {
    return count_of(launches, sizeof launches / sizeof launches[0], kernel);
}

/* The driver's functions: declared as the backend declares them. */
#define FUNCTION(member, symbol, parameters) spi_cu_result symbol parameters;
#include "device/cuda/functions.def"

EXPORT spi_cu_result cuInit(unsigned flags) {
    ENTER(false);
    return flags ? 1 : 0;
}

EXPORT spi_cu_result cuDriverGetVersion(int *out) {
    ENTER(false);
    *out = version;
    return 0;
}

EXPORT spi_cu_result cuDeviceGetCount(int *count) {
    ENTER(false);
    *count = devices;
    return 0;
}

EXPORT spi_cu_result cuDeviceGet(spi_cu_device *device, int ordinal) {
    ENTER(false);
    *device = ordinal;
    return ordinal < devices ? 0 : 101;
}

EXPORT spi_cu_result cuDeviceGetName(char *name, int bytes, spi_cu_device device) {
    ENTER(false);
    snprintf(name, (size_t)bytes, "Stand-in %d", device);
    return 0;
}

EXPORT spi_cu_result cuDeviceGetAttribute(int *value, int attribute, spi_cu_device device) {
    (void)device;
    ENTER(false);
    switch (attribute) {
    case SPI_CU_MULTIPROCESSORS: *value = 132; break;
    case SPI_CU_INTEGRATED: *value = 0; break;
    case SPI_CU_MAJOR: *value = major; break;
    case SPI_CU_MINOR: *value = 0; break;
    case SPI_CU_SHARED_BYTES: *value = SHARED_MAX; break;
    default: *value = 1; break;
    }
    return 0;
}

EXPORT spi_cu_result cuDeviceTotalMem_v2(size_t *bytes, spi_cu_device device) {
    (void)device;
    ENTER(false);
    *bytes = (size_t)80 << 30;
    return 0;
}

EXPORT spi_cu_result cuDevicePrimaryCtxRetain(spi_cu_context *context, spi_cu_device device) {
    (void)device;
    ENTER(false);
    *context = (spi_cu_context)make(CONTEXT, 0, 0)->first;
    return 0;
}

EXPORT spi_cu_result cuDevicePrimaryCtxRelease_v2(spi_cu_device device) {
    (void)device;
    ENTER(true);
    for (size_t i = 0; i < THINGS_MAX; i++) {
        if (things[i].kind == CONTEXT) {
            things[i].kind = NOTHING;
            return 0;
        }
    }
    broken("a context was released twice");
    return 1;
}

EXPORT spi_cu_result cuCtxSetCurrent(spi_cu_context context) {
    ENTER(!context);
    if (context && !find(CONTEXT, (uintptr_t)context)) {
        broken("a context that does not exist was made current");
        return 201;
    }
    current = (uintptr_t)context;
    return 0;
}

EXPORT spi_cu_result cuStreamCreate(spi_cu_stream *stream, unsigned flags) {
    (void)flags;
    ENTER(false);
    NEED_CONTEXT();
    *stream = (spi_cu_stream)make(STREAM, 0, 0)->first;
    return 0;
}

EXPORT spi_cu_result cuStreamDestroy_v2(spi_cu_stream stream) {
    ENTER(true);
    return drop(STREAM, (uintptr_t)stream, "a stream was destroyed that does not exist");
}

static int need_stream(spi_cu_stream stream) {
    if (!find(STREAM, (uintptr_t)stream)) {
        broken("a stream that does not exist was used");
        return 400;
    }
    return 0;
}

EXPORT spi_cu_result cuStreamSynchronize(spi_cu_stream stream) {
    ENTER(true);
    return need_stream(stream);
}

EXPORT spi_cu_result cuEventCreate(spi_cu_event *event, unsigned flags) {
    (void)flags;
    ENTER(false);
    NEED_CONTEXT();
    *event = (spi_cu_event)make(EVENT, 0, 0)->first;
    return 0;
}

EXPORT spi_cu_result cuEventDestroy_v2(spi_cu_event event) {
    ENTER(true);
    return drop(EVENT, (uintptr_t)event, "an event was destroyed that does not exist");
}

static int need_event(spi_cu_event event) {
    if (!find(EVENT, (uintptr_t)event)) {
        broken("an event that does not exist was used");
        return 400;
    }
    return 0;
}

EXPORT spi_cu_result cuEventRecord(spi_cu_event event, spi_cu_stream stream) {
    ENTER(false);
    NEED_CONTEXT();
    int result = need_stream(stream);
    return result ? result : need_event(event);
}

EXPORT spi_cu_result cuEventQuery(spi_cu_event event) {
    ENTER(false);
    return need_event(event);
}

EXPORT spi_cu_result cuEventSynchronize(spi_cu_event event) {
    ENTER(false);
    return need_event(event);
}

EXPORT spi_cu_result cuModuleLoadData(spi_cu_module *module, const void *image) {
    ENTER(false);
    NEED_CONTEXT();
    uint32_t magic;
    memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50) {
        broken("a module is no fatbin");
        return 200;
    }
    *module = (spi_cu_module)make(MODULE, 0, 0)->first;
    return 0;
}

EXPORT spi_cu_result cuModuleUnload(spi_cu_module module) {
    ENTER(true);
    NEED_CONTEXT();
    return drop(MODULE, (uintptr_t)module, "a module was unloaded that does not exist");
}

EXPORT spi_cu_result cuModuleGetFunction(spi_cu_function *function, spi_cu_module module, const char *name) {
    ENTER(false);
    if (!find(MODULE, (uintptr_t)module)) {
        broken("a function was looked for in a module that does not exist");
        return 400;
    }
    thing *made = make(FUNCTION_OF_MODULE, 0, 0);
    made->name = name;
    *function = (spi_cu_function)made->first;
    return 0;
}

EXPORT spi_cu_result cuFuncSetAttribute(spi_cu_function function, int attribute, int value) {
    ENTER(false);
    if (!find(FUNCTION_OF_MODULE, (uintptr_t)function)) {
        broken("an attribute of a function that does not exist");
        return 400;
    }
    return attribute == SPI_CU_FUNCTION_SHARED_BYTES && value > SHARED_MAX ? 1 : 0;
}

static bool starts_with(const char *text, const char *prefix) {
    return !strncmp(text, prefix, strlen(prefix));
}

/* Reads the arguments as the driver would copy them. */
static void read_arguments(const char *name, void **arguments) {
    static volatile uint8_t sum;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (starts_with(name, kernels[i].prefix)) {
            for (size_t k = 0; k < 8 && kernels[i].sizes[k]; k++) {
                const uint8_t *bytes = arguments[k];
                for (size_t b = 0; b < kernels[i].sizes[k]; b++) {
                    sum = (uint8_t)(sum + bytes[b]);
                }
            }
            return;
        }
    }
    broken("a kernel was launched that the stand-in does not know");
}

static int launch(spi_cu_function function, const unsigned *grid, const unsigned *block, unsigned shared_bytes,
                  spi_cu_stream stream, void **arguments) {
    const thing *kernel = find(FUNCTION_OF_MODULE, (uintptr_t)function);
    if (!kernel) {
        broken("a function was launched that does not exist");
        return 400;
    }
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535 || !block[0] ||
        block[0] * block[1] * block[2] > 1024 || shared_bytes > SHARED_MAX) {
        broken("a launch of a shape that no card takes");
        return 1;
    }
    read_arguments(kernel->name, arguments);
    count_in(launches, sizeof launches / sizeof launches[0], kernel->name);
    return need_stream(stream);
}

EXPORT spi_cu_result cuLaunchKernel(spi_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                    unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                    spi_cu_stream stream, void **arguments, void **extra) {
    ENTER(false);
    NEED_CONTEXT();
    if (extra) {
        broken("a launch with arguments in two places");
    }
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    return launch(function, grid, block, shared_bytes, stream, arguments);
}

EXPORT spi_cu_result cuTensorMapEncodeTiled(spi_cu_map *map, int type, unsigned rank, void *address,
                                            const unsigned long long *dims, const unsigned long long *strides,
                                            const unsigned *box, const unsigned *steps, int interleave, int swizzle,
                                            int promotion, int fill) {
    ENTER(false);
    NEED_CONTEXT();
    bool good = (uintptr_t)map % 64 == 0 && rank == 2 && address && (uintptr_t)address % 16 == 0 &&
                strides[0] % 16 == 0 && dims[0] && dims[1] && box[0] && box[0] <= 256 && box[0] * 2 % 16 == 0 &&
                box[1] && box[1] <= 256 && steps[0] == 1 && steps[1] == 1 && type == SPI_CU_MAP_16_BITS &&
                !interleave && (!swizzle || (swizzle == SPI_CU_MAP_SWIZZLE_128 && box[0] * 2 <= 128)) &&
                promotion >= 0 && promotion <= 3 && !fill;
    if (good) {
        memset(map, 1, sizeof *map);
    }
    return good ? 0 : 1;
}

EXPORT spi_cu_result cuLaunchKernelEx(const spi_cu_launch_config *config, spi_cu_function function, void **arguments,
                                      void **extra) {
    ENTER(false);
    NEED_CONTEXT();
    if (config->attribute_count && major < 9) {
        broken("a launch with what cards before Hopper do not have");
        return 801;
    }
    for (unsigned i = 0; i < config->attribute_count; i++) {
        const spi_cu_launch_attribute *attribute = &config->attributes[i];
        if (attribute->id == SPI_CU_LAUNCH_OVERLAP) {
            continue;
        }
        if (attribute->id != SPI_CU_LAUNCH_CLUSTER || !attribute->value[0] || !attribute->value[1] ||
            !attribute->value[2] || attribute->value[0] * attribute->value[1] * attribute->value[2] > 8 ||
            config->grid[2] % attribute->value[2]) {
            return 1;
        }
    }
    return extra ? 1 : launch(function, config->grid, config->block, config->shared_bytes, config->stream, arguments);
}

EXPORT spi_cu_result cuLaunchCooperativeKernel(spi_cu_function function, unsigned grid_x, unsigned grid_y,
                                               unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                                               unsigned shared_bytes, spi_cu_stream stream, void **arguments) {
    ENTER(false);
    NEED_CONTEXT();
    if (grid_x * grid_y * grid_z > 132) {
        return 720;
    }
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    spi_cu_result result = launch(function, grid, block, shared_bytes, stream, arguments);
    bool hangs = fail_function && !strcmp(fail_function, "cuEventQuery"); /* until the host looks why */
    if (!result && !hangs) {                                              /* what the host waits for */
        const spi_cu_token *token = arguments[0];
        bool ends = !token->picks;
        for (uint32_t i = 0; i < token->steps && !ends; i++) { /* the next number is always the likeliest */
            token->picks[i] = (int32_t)(token->token + i + 1);
            for (uint32_t k = 0; k < token->stop_count; k++) {
                ends = ends || token->stops[k] == token->picks[i];
            }
        }
        *token->done = token->sequence;
    }
    return result;
}

EXPORT spi_cu_result cuMemAlloc_v2(spi_cu_pointer *pointer, size_t bytes) {
    ENTER(false);
    NEED_CONTEXT();
    void *memory = bytes ? aligned_alloc(256, (bytes + 255) / 256 * 256) : NULL;
    if (!memory) {
        return bytes ? SPI_CU_OUT_OF_MEMORY : 1;
    }
    *pointer = make(DEVICE_MEMORY, (uintptr_t)memory, bytes)->first;
    return 0;
}

EXPORT spi_cu_result cuMemFree_v2(spi_cu_pointer pointer) {
    ENTER(true);
    NEED_CONTEXT();
    int result = drop(DEVICE_MEMORY, (uintptr_t)pointer, "device memory was freed that does not exist");
    free(result ? NULL : (void *)(uintptr_t)pointer);
    return result;
}

EXPORT spi_cu_result cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    ENTER(false);
    NEED_CONTEXT();
    if (flags != (SPI_CU_HOST_PORTABLE | SPI_CU_HOST_MAPPED)) {
        broken("pinned memory that kernels cannot reach");
    }
    *pointer = bytes ? aligned_alloc(4096, (bytes + 4095) / 4096 * 4096) : NULL;
    if (!*pointer) {
        return bytes ? SPI_CU_OUT_OF_MEMORY : 1;
    }
    make(HOST_MEMORY, (uintptr_t)*pointer, bytes);
    return 0;
}

EXPORT spi_cu_result cuMemFreeHost(void *pointer) {
    ENTER(true);
    NEED_CONTEXT();
    int result = drop(HOST_MEMORY, (uintptr_t)pointer, "pinned memory was freed that does not exist");
    free(result ? NULL : pointer);
    return result;
}

EXPORT spi_cu_result cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags) {
    ENTER(false);
    NEED_CONTEXT();
    uintptr_t first = (uintptr_t)pointer;
    if (first % 4096 || bytes % 4096 || !bytes) {
        broken("memory was registered that does not begin and end with a page");
        return 1;
    }
    if (overlaps(REGISTERED, first, bytes)) {
        broken("memory was registered twice");
        return 712;
    }
    if (flags != (SPI_CU_HOST_PORTABLE | SPI_CU_HOST_MAPPED)) {
        broken("registered memory that kernels cannot reach");
    }
    for (size_t at = 0; at < bytes; at += 4096) { /* the driver pins every page: all must be there */
        *(volatile uint8_t *)(first + at) = *(volatile uint8_t *)(first + at);
    }
    make(REGISTERED, first, bytes);
    return 0;
}

EXPORT spi_cu_result cuMemHostUnregister(void *pointer) {
    ENTER(true);
    NEED_CONTEXT();
    return drop(REGISTERED, (uintptr_t)pointer, "memory was unregistered that is not registered");
}

EXPORT spi_cu_result cuMemHostGetDevicePointer_v2(spi_cu_pointer *pointer, void *host, unsigned flags) {
    ENTER(false);
    if (flags || (!holder(REGISTERED, (uintptr_t)host) && !holder(HOST_MEMORY, (uintptr_t)host))) {
        broken("a device pointer of memory that is not registered");
        return 1;
    }
    *pointer = (uintptr_t)host;
    return 0;
}

/* Device memory, or a part of a mirror that memory stands behind. */
static bool on_card(uintptr_t first, size_t bytes) {
    const thing *memory = holder(DEVICE_MEMORY, first);
    if (memory) {
        return first + bytes <= memory->first + memory->bytes;
    }
    for (uintptr_t at = first; at < first + bytes;) {
        const thing *mapped = holder(MAPPED, at);
        if (!mapped || !mapped->accessible) {
            return false;
        }
        at = mapped->first + mapped->bytes;
    }
    return true;
}

/* Pinned to its end, or not at all: a copy across the seam of two registrations fails on a real card. */
static bool on_host(uintptr_t first, size_t bytes) {
    const thing *memory = holder(HOST_MEMORY, first);
    memory = memory ? memory : holder(REGISTERED, first);
    return memory ? first + bytes <= memory->first + memory->bytes
                  : !overlaps(REGISTERED, first, bytes) && !overlaps(HOST_MEMORY, first, bytes);
}

static int check_copy(uintptr_t card, uintptr_t host, size_t bytes, spi_cu_stream stream) {
    if (!on_card(card, bytes)) {
        broken("a copy leaves the card's memory");
        return 1;
    }
    if (!on_host(host, bytes)) {
        broken("a copy crosses the seam of two registrations");
        return 1;
    }
    return need_stream(stream);
}

EXPORT spi_cu_result cuMemcpyHtoDAsync_v2(spi_cu_pointer to, const void *from, size_t bytes, spi_cu_stream stream) {
    ENTER(false);
    NEED_CONTEXT();
    int result = check_copy((uintptr_t)to, (uintptr_t)from, bytes, stream);
    if (!result) {
        memcpy((void *)(uintptr_t)to, from, bytes);
    }
    return result;
}

EXPORT spi_cu_result cuMemcpyDtoHAsync_v2(void *to, spi_cu_pointer from, size_t bytes, spi_cu_stream stream) {
    ENTER(false);
    NEED_CONTEXT();
    int result = check_copy((uintptr_t)from, (uintptr_t)to, bytes, stream);
    if (!result) {
        memcpy(to, (const void *)(uintptr_t)from, bytes);
    }
    return result;
}

EXPORT spi_cu_result cuMemsetD8Async(spi_cu_pointer to, unsigned char value, size_t bytes, spi_cu_stream stream) {
    ENTER(false);
    NEED_CONTEXT();
    if (!on_card((uintptr_t)to, bytes)) {
        broken("memory was cleared that is not the card's");
        return 1;
    }
    memset((void *)(uintptr_t)to, value, bytes);
    return need_stream(stream);
}

EXPORT spi_cu_result cuMemGetAllocationGranularity(size_t *bytes, const spi_cu_allocation *allocation, int option) {
    (void)allocation;
    (void)option;
    ENTER(false);
    *bytes = PAGE_BYTES;
    return 0;
}

EXPORT spi_cu_result cuMemAddressReserve(spi_cu_pointer *pointer, size_t bytes, size_t align_bytes, spi_cu_pointer wish,
                                         unsigned long long flags) {
    (void)align_bytes;
    ENTER(false);
    NEED_CONTEXT();
    if (!bytes || bytes % PAGE_BYTES || wish || flags) {
        broken("addresses were reserved that are no whole pages");
        return 1;
    }
    void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return SPI_CU_OUT_OF_MEMORY;
    }
    *pointer = make(RESERVED, (uintptr_t)memory, bytes)->first;
    return 0;
}

EXPORT spi_cu_result cuMemAddressFree(spi_cu_pointer pointer, size_t bytes) {
    ENTER(true);
    const thing *reserved = find(RESERVED, (uintptr_t)pointer);
    if (!reserved || reserved->bytes != bytes || overlaps(MAPPED, (uintptr_t)pointer, bytes)) {
        broken("addresses were freed that are in use, or not all of them");
        return 1;
    }
    munmap((void *)(uintptr_t)pointer, bytes);
    return drop(RESERVED, (uintptr_t)pointer, "addresses were freed twice");
}

EXPORT spi_cu_result cuMemCreate(spi_cu_handle *handle, size_t bytes, const spi_cu_allocation *allocation,
                                 unsigned long long flags) {
    ENTER(false);
    NEED_CONTEXT();
    if (!bytes || bytes % PAGE_BYTES || flags || allocation->type != SPI_CU_PINNED ||
        allocation->location.type != SPI_CU_LOCATION_DEVICE) {
        broken("an allocation that is no whole pages of the card's memory");
        return 1;
    }
    *handle = make(HANDLE, 0, bytes)->first;
    return 0;
}

EXPORT spi_cu_result cuMemRelease(spi_cu_handle handle) {
    ENTER(true);
    return drop(HANDLE, (uintptr_t)handle, "an allocation was released that does not exist");
}

EXPORT spi_cu_result cuMemMap(spi_cu_pointer pointer, size_t bytes, size_t offset, spi_cu_handle handle,
                              unsigned long long flags) {
    ENTER(false);
    NEED_CONTEXT();
    uintptr_t first = (uintptr_t)pointer;
    const thing *reserved = holder(RESERVED, first), *allocated = find(HANDLE, (uintptr_t)handle);
    if (!reserved || first + bytes > reserved->first + reserved->bytes || !allocated || allocated->bytes != bytes ||
        offset || flags || overlaps(MAPPED, first, bytes)) {
        broken("a mapping that is not in reserved addresses, or over another one");
        return 1;
    }
    make(MAPPED, first, bytes);
    return 0;
}

EXPORT spi_cu_result cuMemUnmap(spi_cu_pointer pointer, size_t bytes) {
    ENTER(true);
    const thing *mapped = find(MAPPED, (uintptr_t)pointer);
    if (!mapped || mapped->bytes != bytes) {
        broken("a mapping was undone that does not exist");
        return 1;
    }
    return drop(MAPPED, (uintptr_t)pointer, "a mapping was undone twice");
}

EXPORT spi_cu_result cuMemSetAccess(spi_cu_pointer pointer, size_t bytes, const spi_cu_access *access, size_t count) {
    ENTER(false);
    NEED_CONTEXT();
    thing *mapped = find(MAPPED, (uintptr_t)pointer);
    if (!mapped || mapped->bytes != bytes || count != 1 || access->flags != SPI_CU_ACCESS_READ_WRITE) {
        broken("access was given to what is not mapped");
        return 1;
    }
    mapped->accessible = true;
    return mprotect((void *)(uintptr_t)pointer, bytes, PROT_READ | PROT_WRITE) ? 1 : 0;
}
