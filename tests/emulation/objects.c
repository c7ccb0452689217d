/* tests/emulation/objects.c - a stand-in for libobjc: selectors, references, pools, and objc_msgSend. */
#include "emulation/objects.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default"), used))

#define POOL_OBJECTS 4096
#define POOLS        64
#define SELECTORS    256

struct spi_mt_sel {
    const char *name;
    spi_mt_message message; /* SPI_MT_MESSAGE_COUNT: none of the table */
};

emu_counts emu_counting;
static const emu_settings settings_at_start = {.family = 1009,
                                               .buffer_length_max = (uint64_t)1 << 33,
                                               .simd_width = 32,
                                               .threadgroup_bytes_max = SPI_MT_THREADGROUP_BYTES_MAX,
                                               .fail_after = -1};
static emu_settings settings;
static char violation[256];
static object *all;
static long live;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void set_start(void) {
    settings = settings_at_start;
}

EXPORT emu_settings *emu_get_settings(void) {
    return &settings;
}

EXPORT void emu_reset(void) {
    settings = settings_at_start;
    memset(&emu_counting, 0, sizeof emu_counting);
    violation[0] = 0;
}

EXPORT const char *emu_violation(void) {
    return violation[0] ? violation : NULL;
}

EXPORT long emu_live(void) {
    return live;
}

EXPORT const emu_counts *emu_get_counts(void) {
    return &emu_counting;
}

void emu_break(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (!violation[0]) {
        vsnprintf(violation, sizeof violation, format, arguments);
    }
    va_end(arguments);
}

object *emu_make_always(const emu_class *is, size_t data_bytes) {
    object *self = calloc(1, sizeof *self);
    void *data = calloc(1, data_bytes ? data_bytes : 1);
    if (!self || !data) {
        abort();
    }
    *self = (object){.is = is, .magic = OBJECT_LIVE, .references = 1, .data = data};
    pthread_mutex_lock(&lock);
    self->next = all;
    all = self;
    live++;
    pthread_mutex_unlock(&lock);
    return self;
}

object *emu_make(const emu_class *is, size_t data_bytes) {
    if (settings.fail_after >= 0 && settings.fail_after-- == 0) {
        emu_counting.failures++;
        return NULL;
    }
    return emu_make_always(is, data_bytes);
}

object *emu_retain(object *self) {
    if (self) {
        __atomic_fetch_add(&self->references, 1, __ATOMIC_RELAXED);
    }
    return self;
}

void emu_let_go(object *self) {
    if (!self || self->is_class) {
        return;
    }
    int32_t left = __atomic_sub_fetch(&self->references, 1, __ATOMIC_ACQ_REL);
    if (left < 0) {
        emu_break("over-release of %s", self->is->name);
    }
    if (left) {
        return;
    }
    if (self->is->finish) {
        self->is->finish(self);
    }
    free(self->data);
    self->data = NULL;
    for (int i = 0; i < 4; i++) {
        emu_let_go(self->held[i]);
    }
    pthread_mutex_lock(&lock);
    live--;
    pthread_mutex_unlock(&lock);
}

void emu_hold(object *self, int slot, object *other) {
    emu_retain(other);
    emu_let_go(self->held[slot]);
    self->held[slot] = other;
}

bool emu_is(const object *self, const emu_class *is, const char *what) {
    if (!self || self->magic != OBJECT_LIVE || self->is != is || self->references <= 0) {
        emu_break("%s is no live %s", what, is->name);
        return false;
    }
    return true;
}

/* Pools are a stack for each thread. */
static _Thread_local struct {
    object *objects[POOL_OBJECTS];
    int count, starts[POOLS], depth;
} pool;

EXPORT void *objc_autoreleasePoolPush(void) {
    if (pool.depth == POOLS) {
        abort();
    }
    pool.starts[pool.depth++] = pool.count;
    return (void *)(intptr_t)pool.depth;
}

EXPORT void objc_autoreleasePoolPop(void *token) {
    if ((intptr_t)token != pool.depth) {
        emu_break("pools end in another order than they began");
        return;
    }
    int start = pool.starts[--pool.depth];
    while (pool.count > start) {
        emu_let_go(pool.objects[--pool.count]);
    }
}

object *emu_give_to_pool(object *self) {
    if (!pool.depth) {
        emu_break("%s is autoreleased where there is no pool", self->is->name);
    } else if (pool.count == POOL_OBJECTS) {
        abort();
    } else {
        pool.objects[pool.count++] = self;
    }
    return self;
}

static const char *const names[SPI_MT_MESSAGE_COUNT] = {
#define MESSAGE_0(name, selector, result)             selector,
#define MESSAGE_1(name, selector, result, a)          selector,
#define MESSAGE_2(name, selector, result, a, b)       selector,
#define MESSAGE_3(name, selector, result, a, b, c)    selector,
#define MESSAGE_4(name, selector, result, a, b, c, d) selector,
#include "device/metal/messages.def"
};

EXPORT spi_mt_selector sel_registerName(const char *name) {
    static struct spi_mt_sel selectors[SELECTORS];
    static int count;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < count && strcmp(selectors[i].name, name) != 0) {
        i++;
    }
    if (i == count && count < SELECTORS) {
        int message = 0;
        while (message < SPI_MT_MESSAGE_COUNT && strcmp(names[message], name) != 0) {
            message++;
        }
        selectors[count++] = (struct spi_mt_sel){strdup(name), (spi_mt_message)message};
    }
    pthread_mutex_unlock(&lock);
    return &selectors[i];
}

EXPORT object *objc_getClass(const char *name) {
    return emu_find_class(name);
}

static const emu_method *find_method(const object *self, spi_mt_message message) {
    const emu_method *method = self->is->methods;
    while (method->message != SPI_MT_MESSAGE_COUNT && method->message != message) {
        method++;
    }
    return method->message == message && message != SPI_MT_MESSAGE_COUNT ? method : NULL;
}

/* Every object answers these. */
static void release_object(object *self, spi_mt_selector selector) {
    (void)selector;
    emu_let_go(self);
}

static bool responds(object *self, spi_mt_selector selector, spi_mt_selector to) {
    (void)selector;
    bool is_new = to->message == SPI_MT_new_residency_set || to->message == SPI_MT_add_residency_set;
    return !(is_new && settings.old_system) && find_method(self, to->message) != NULL;
}

static const emu_method of_all[] = {METHOD(release, release_object), METHOD(responds, responds), NO_MORE};

static long answer_nothing(void) {
    return 0;
}

/* What objc_msgSend jumps to. */
emu_code emu_find_code(object *self, spi_mt_selector selector) __attribute__((visibility("hidden"), used));
emu_code emu_find_code(object *self, spi_mt_selector selector) {
    __atomic_fetch_add(&emu_counting.messages, 1, __ATOMIC_RELAXED);
    if (!self) {
        return (emu_code)answer_nothing;
    }
    if (self->magic != OBJECT_LIVE) {
        emu_break("%s is sent to something that is no object", selector->name);
        return (emu_code)answer_nothing;
    }
    if (!self->is_class && self->references <= 0) {
        emu_break("%s is sent to a %s that was freed", selector->name, self->is->name);
        return (emu_code)answer_nothing;
    }
    const emu_method *method = find_method(self, selector->message);
    for (int i = 0; !method && of_all[i].code; i++) {
        method = of_all[i].message == selector->message ? &of_all[i] : NULL;
    }
    if (!method) {
        emu_break("%s does not know %s", self->is->name, selector->name);
        return (emu_code)answer_nothing;
    }
    return method->code;
}

/* Looks the method up and jumps there with all registers of arguments as they were; the stack stays as it is. */
#if defined(__x86_64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        "push %rbp\nmov %rsp,%rbp\npush %rdi\npush %rsi\npush %rdx\npush %rcx\npush %r8\npush %r9\nsub $128,%rsp\n"
        "movups %xmm0,(%rsp)\nmovups %xmm1,16(%rsp)\nmovups %xmm2,32(%rsp)\nmovups %xmm3,48(%rsp)\n"
        "movups %xmm4,64(%rsp)\nmovups %xmm5,80(%rsp)\nmovups %xmm6,96(%rsp)\nmovups %xmm7,112(%rsp)\n"
        "call emu_find_code\nmov %rax,%r11\n"
        "movups (%rsp),%xmm0\nmovups 16(%rsp),%xmm1\nmovups 32(%rsp),%xmm2\nmovups 48(%rsp),%xmm3\n"
        "movups 64(%rsp),%xmm4\nmovups 80(%rsp),%xmm5\nmovups 96(%rsp),%xmm6\nmovups 112(%rsp),%xmm7\n"
        "add $128,%rsp\npop %r9\npop %r8\npop %rcx\npop %rdx\npop %rsi\npop %rdi\npop %rbp\njmp *%r11\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        "stp x29,x30,[sp,#-224]!\nmov x29,sp\nstp x0,x1,[sp,#16]\nstp x2,x3,[sp,#32]\nstp x4,x5,[sp,#48]\n"
        "stp x6,x7,[sp,#64]\nstr x8,[sp,#80]\nstp q0,q1,[sp,#96]\nstp q2,q3,[sp,#128]\nstp q4,q5,[sp,#160]\n"
        "stp q6,q7,[sp,#192]\nbl emu_find_code\nmov x16,x0\nldp q0,q1,[sp,#96]\nldp q2,q3,[sp,#128]\n"
        "ldp q4,q5,[sp,#160]\nldp q6,q7,[sp,#192]\nldp x0,x1,[sp,#16]\nldp x2,x3,[sp,#32]\nldp x4,x5,[sp,#48]\n"
        "ldp x6,x7,[sp,#64]\nldr x8,[sp,#80]\nldp x29,x30,[sp],#224\nbr x16\n");
#else
#error "objc_msgSend is written for x86-64 and Arm64"
#endif
