/* device/metal/objc.h - the Objective-C runtime as plain C: objects, selectors, messages, the numbers of Metal's enums.
 *
 * Nothing is linked against: libobjc and Metal are opened at run time, and elsewhere than on a Mac the tests' stand-in
 * is. A message is a call of objc_msgSend through a pointer of the method's own type, as Apple's ABI for Arm demands;
 * which messages there are stands in messages.def. A message to NULL does nothing and returns zeros.
 *
 * May include: base, the public headers.
 */
#ifndef SPI_DEVICE_METAL_OBJC_H
#define SPI_DEVICE_METAL_OBJC_H

#include <stdbool.h>
#include <stdint.h>

#include "samepage/status.h"

typedef struct spi_mt_object *spi_mt_id;
typedef struct spi_mt_sel *spi_mt_selector;
typedef struct spi_mt_size { /* MTLSize */
    uint64_t width, height, depth;
} spi_mt_size;

typedef enum spi_mt_message {
#define MESSAGE_0(name, selector, result)             SPI_MT_##name,
#define MESSAGE_1(name, selector, result, a)          SPI_MT_##name,
#define MESSAGE_2(name, selector, result, a, b)       SPI_MT_##name,
#define MESSAGE_3(name, selector, result, a, b, c)    SPI_MT_##name,
#define MESSAGE_4(name, selector, result, a, b, c, d) SPI_MT_##name,
#include "device/metal/messages.def"
    SPI_MT_MESSAGE_COUNT
} spi_mt_message;

/* Values of Metal's enums; tests/emulation/check_messages.py compares those whose constants are named. */
enum {
    SPI_MT_STORAGE_SHARED = 0,           /* MTLResourceStorageModeShared: 0 << 4 */
    SPI_MT_FAMILY_APPLE7 = 1007,         /* MTLGPUFamilyApple7: M1 */
    SPI_MT_FAMILY_APPLE_LAST = 1012,     /* the last that is asked for to name a chip's generation */
    SPI_MT_FAMILY_METAL3 = 5001,         /* MTLGPUFamilyMetal3 */
    SPI_MT_LANGUAGE_2_3 = (2 << 16) + 3, /* MTLLanguageVersion2_3 */
    SPI_MT_DATA_UINT = 33,               /* MTLDataTypeUInt */
    SPI_MT_FAIL_ON_MISS = 4,             /* MTLPipelineOptionFailOnBinaryArchiveMiss */
    SPI_MT_DISPATCH_CONCURRENT = 1,      /* MTLDispatchTypeConcurrent */
    SPI_MT_BARRIER_BUFFERS = 1,          /* MTLBarrierScopeBuffers */
    SPI_MT_STATUS_COMPLETED = 4,         /* MTLCommandBufferStatusCompleted */
    SPI_MT_STATUS_ERROR = 5,             /* MTLCommandBufferStatusError */
    SPI_MT_ERROR_OUT_OF_MEMORY = 8,      /* MTLCommandBufferErrorOutOfMemory */
    SPI_MT_BUFFER_INDEX_MAX = 30,        /* the Metal feature set tables: 31 buffers a kernel */
    SPI_MT_INLINE_BYTES_MAX = 4096,      /* setBytes:length:atIndex:'s documentation */
    SPI_MT_PAGE_BYTES = 16384,           /* vm_page_size on Apple Silicon: what a buffer over memory is aligned to */
    SPI_MT_THREADGROUP_BYTES_MAX = 32768 /* the Metal feature set tables, families Apple4 and later */
};

/* The entry points of libobjc and Metal, and the selectors once registered. */
typedef struct spi_mt_runtime {
    void *objc, *graphics, *metal; /* libraries */
    void (*send)(void);            /* objc_msgSend */
    spi_mt_id (*get_class)(const char *name);
    spi_mt_selector (*register_selector)(const char *name);
    void *(*push_pool)(void);
    void (*pop_pool)(void *pool);
    spi_mt_id (*create_device)(void); /* MTLCreateSystemDefaultDevice */
    spi_mt_selector selectors[SPI_MT_MESSAGE_COUNT];
} spi_mt_runtime;

/* SP_NO_DEVICE: there is no Metal here. Nothing is left behind then. */
sp_status spi_mt_runtime_open(spi_mt_runtime *runtime, sp_error *error);
void spi_mt_runtime_close(spi_mt_runtime *runtime);

/* spi_mt_commit(runtime, object), spi_mt_set_bytes(runtime, object, bytes, length, index), ... */
#define MESSAGE_0(name, selector, result)                                                                              \
    static inline result spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object) {                              \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        return ((result(*)(spi_mt_id, spi_mt_selector))runtime->send)(object, chosen);                                 \
    }
#define MESSAGE_1(name, selector, result, A)                                                                           \
    static inline result spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a) {                         \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        return ((result(*)(spi_mt_id, spi_mt_selector, A))runtime->send)(object, chosen, a);                           \
    }
#define MESSAGE_2(name, selector, result, A, B)                                                                        \
    static inline result spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a, B b) {                    \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        return ((result(*)(spi_mt_id, spi_mt_selector, A, B))runtime->send)(object, chosen, a, b);                     \
    }
#define MESSAGE_3(name, selector, result, A, B, C)                                                                     \
    static inline result spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a, B b, C c) {               \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        return ((result(*)(spi_mt_id, spi_mt_selector, A, B, C))runtime->send)(object, chosen, a, b, c);               \
    }
#define MESSAGE_4(name, selector, result, A, B, C, D)                                                                  \
    static inline result spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a, B b, C c, D d) {          \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        return ((result(*)(spi_mt_id, spi_mt_selector, A, B, C, D))runtime->send)(object, chosen, a, b, c, d);         \
    }
#define TELL_0(name, selector)                                                                                         \
    static inline void spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object) {                                \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        ((void (*)(spi_mt_id, spi_mt_selector))runtime->send)(object, chosen);                                         \
    }
#define TELL_1(name, selector, A)                                                                                      \
    static inline void spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a) {                           \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        ((void (*)(spi_mt_id, spi_mt_selector, A))runtime->send)(object, chosen, a);                                   \
    }
#define TELL_2(name, selector, A, B)                                                                                   \
    static inline void spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a, B b) {                      \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        ((void (*)(spi_mt_id, spi_mt_selector, A, B))runtime->send)(object, chosen, a, b);                             \
    }
#define TELL_3(name, selector, A, B, C)                                                                                \
    static inline void spi_mt_##name(const spi_mt_runtime *runtime, spi_mt_id object, A a, B b, C c) {                 \
        spi_mt_selector chosen = runtime->selectors[SPI_MT_##name];                                                    \
        ((void (*)(spi_mt_id, spi_mt_selector, A, B, C))runtime->send)(object, chosen, a, b, c);                       \
    }
#include "device/metal/messages.def"

/* Conveniences of objc.c. */
spi_mt_id spi_mt_new_of_class(const spi_mt_runtime *runtime, const char *name); /* NULL: the system has no such class */
spi_mt_id spi_mt_text(const spi_mt_runtime *runtime, const char *text);         /* an NSString, the pool's */
bool spi_mt_knows(const spi_mt_runtime *runtime, spi_mt_id object, spi_mt_message message);

/* Copies what an NSError says, NULL allowed. */
void spi_mt_error_text(const spi_mt_runtime *runtime, spi_mt_id error, char *text, uint32_t capacity);

#endif
