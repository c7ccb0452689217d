/* tests/emulation/objects.h - the stand-in's objects: what objects.c (the runtime) and the classes share. */
#ifndef SPI_TESTS_EMULATION_OBJECTS_H
#define SPI_TESTS_EMULATION_OBJECTS_H

#include "device/metal/objc.h"
#include "emulation/emulation.h"

typedef struct spi_mt_object object;
typedef void (*emu_code)(void);

/* The types of all methods, out of the backend's own table. */
#define MESSAGE_0(name, selector, result)       typedef result (*emu_type_##name)(object *, spi_mt_selector);
#define MESSAGE_1(name, selector, result, a)    typedef result (*emu_type_##name)(object *, spi_mt_selector, a);
#define MESSAGE_2(name, selector, result, a, b) typedef result (*emu_type_##name)(object *, spi_mt_selector, a, b);
#define MESSAGE_3(name, selector, result, a, b, c)                                                                     \
    typedef result (*emu_type_##name)(object *, spi_mt_selector, a, b, c);
#define MESSAGE_4(name, selector, result, a, b, c, d)                                                                  \
    typedef result (*emu_type_##name)(object *, spi_mt_selector, a, b, c, d);
#include "device/metal/messages.def"

typedef struct emu_method {
    spi_mt_message message;
    emu_code code;
} emu_method;

/* A method whose type is not that of the table does not compile. */
#define METHOD(name, function)                                                                                         \
    { SPI_MT_##name, (emu_code)(1 ? function : (emu_type_##name)0) }

typedef struct emu_class {
    const char *name;
    const emu_method *methods; /* a zero ends them */
    void (*finish)(object *self);
} emu_class;
#define NO_MORE                                                                                                        \
    { SPI_MT_MESSAGE_COUNT, 0 }

#define OBJECT_LIVE 0x4f626a63u

struct spi_mt_object {
    const emu_class *is;
    uint32_t magic;
    int32_t references;
    bool is_class;
    struct spi_mt_object *next; /* of all that ever were: memory is kept, so that a late message is seen */
    struct spi_mt_object *held[4];
    void *data; /* the class's own */
};

/* An object with one reference and zeroed data of that size; NULL where a failure is due. */
object *emu_make(const emu_class *is, size_t data_bytes);
object *emu_make_always(const emu_class *is, size_t data_bytes);
object *emu_retain(object *self);
void emu_let_go(object *self);
object *emu_give_to_pool(object *self);
void emu_hold(object *self, int slot, object *other);
bool emu_is(const object *self, const emu_class *is, const char *what); /* notes a violation if not, or freed */

__attribute__((format(printf, 1, 2))) void emu_break(const char *format, ...);

/* Apple's entry points, as libobjc and Metal export them. objc_msgSend is written in assembly. */
void *objc_autoreleasePoolPush(void);
void objc_autoreleasePoolPop(void *token);
spi_mt_selector sel_registerName(const char *name);
object *objc_getClass(const char *name);
object *MTLCreateSystemDefaultDevice(void);

extern emu_counts emu_counting;

/* foundation.c */
extern const emu_class emu_NSString;
object *emu_string(const char *text); /* one reference */
const char *emu_text_of(const object *string);
void emu_set_error(object **error, int64_t code, const char *text);
extern object emu_foundation_classes[];

/* metal.c, commands.c: classes by name. */
object *emu_find_class(const char *name);

extern const emu_class emu_MTLBuffer, emu_MTLComputePipelineState, emu_MTLCommandQueue, emu_MTLSharedEvent,
    emu_MTLResidencySet;

typedef struct emu_buffer {
    uint8_t *base;
    uint64_t bytes;
    bool is_over; /* memory of somebody else's */
} emu_buffer;

typedef struct emu_pipeline {
    const emu_kernel *kernel;
    emu_constant constants[EMU_CONSTANTS];
} emu_pipeline;

object *emu_new_queue(emu_order order);
object *emu_new_event(void);

#endif
