/* device/metal/objc.c - opening libobjc and Metal and registering the selectors. */
#include "device/metal/objc.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* Core Graphics: MTLCreateSystemDefaultDevice finds nothing in a program without windows that has not loaded it. */
#if defined(__APPLE__)
#define OBJC     "/usr/lib/libobjc.A.dylib"
#define GRAPHICS "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
#define METAL    "/System/Library/Frameworks/Metal.framework/Metal"
#else
/* The tests' stand-in, found beside the tests; nobody else has it. */
#define OBJC     "libsamepage_metal_emulation.so"
#define GRAPHICS OBJC
#define METAL    OBJC
#endif

static const char *const selector_names[SPI_MT_MESSAGE_COUNT] = {
#define MESSAGE_0(name, selector, result)             selector,
#define MESSAGE_1(name, selector, result, a)          selector,
#define MESSAGE_2(name, selector, result, a, b)       selector,
#define MESSAGE_3(name, selector, result, a, b, c)    selector,
#define MESSAGE_4(name, selector, result, a, b, c, d) selector,
#include "device/metal/messages.def"
};

/* POSIX lets dlsym's object pointer become a function pointer; ISO C needs the detour. */
static bool find(void *library, const char *name, void *entry) {
    void *symbol = dlsym(library, name);
    memcpy(entry, &symbol, sizeof symbol);
    return symbol != NULL;
}

sp_status spi_mt_runtime_open(spi_mt_runtime *runtime, sp_error *error) {
    memset(runtime, 0, sizeof *runtime);
    runtime->objc = dlopen(OBJC, RTLD_NOW | RTLD_LOCAL);
    runtime->graphics = dlopen(GRAPHICS, RTLD_NOW | RTLD_LOCAL);
    runtime->metal = dlopen(METAL, RTLD_NOW | RTLD_LOCAL);
    bool found = runtime->objc && runtime->metal && find(runtime->objc, "objc_msgSend", &runtime->send) &&
                 find(runtime->objc, "objc_getClass", &runtime->get_class) &&
                 find(runtime->objc, "sel_registerName", &runtime->register_selector) &&
                 find(runtime->objc, "objc_autoreleasePoolPush", &runtime->push_pool) &&
                 find(runtime->objc, "objc_autoreleasePoolPop", &runtime->pop_pool) &&
                 find(runtime->metal, "MTLCreateSystemDefaultDevice", &runtime->create_device);
    if (!found) {
        spi_mt_runtime_close(runtime);
        return spi_fail(error, SP_NO_DEVICE, "there is no Metal here: it comes with macOS");
    }
    for (int i = 0; i < SPI_MT_MESSAGE_COUNT; i++) {
        runtime->selectors[i] = runtime->register_selector(selector_names[i]);
    }
    return SP_OK;
}

void spi_mt_runtime_close(spi_mt_runtime *runtime) {
    void *libraries[] = {runtime->metal, runtime->graphics, runtime->objc};
    for (int i = 0; i < 3; i++) {
        if (libraries[i]) {
            dlclose(libraries[i]);
        }
    }
    memset(runtime, 0, sizeof *runtime);
}

spi_mt_id spi_mt_new_of_class(const spi_mt_runtime *runtime, const char *name) {
    return spi_mt_make_new(runtime, runtime->get_class(name));
}

spi_mt_id spi_mt_text(const spi_mt_runtime *runtime, const char *text) {
    return spi_mt_string_of(runtime, runtime->get_class("NSString"), text);
}

bool spi_mt_knows(const spi_mt_runtime *runtime, spi_mt_id object, spi_mt_message message) {
    return spi_mt_responds(runtime, object, runtime->selectors[message]);
}

void spi_mt_error_text(const spi_mt_runtime *runtime, spi_mt_id error, char *text, uint32_t capacity) {
    const char *said = error ? spi_mt_utf8(runtime, spi_mt_description(runtime, error)) : NULL;
    snprintf(text, capacity, "%s", said ? said : "Metal does not say why");
    text[strcspn(text, "\n")] = 0; /* a compiler's message goes on for pages */
}
