/* tests/support/metal_rig.c - see metal_rig.h. */
#include "support/metal_rig.h"

#include <dlfcn.h>
#include <string.h>

#include "support/support.h"

metal_rig metal;

int metal_find(void **state) {
    (void)state;
    void *library = dlopen("libsamepage_metal_emulation.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        print_error("%s\n", dlerror());
        return 1;
    }
    const char *const names[] = {"emu_get_settings", "emu_reset", "emu_violation", "emu_live", "emu_get_counts"};
    void *entries[] = {&metal.settings, &metal.reset, &metal.violation, &metal.live, &metal.counts};
    for (int i = 0; i < 5; i++) {
        void *found = dlsym(library, names[i]);
        memcpy(entries[i], &found, sizeof found);
        if (!found) {
            return 1;
        }
    }
    return 0;
}

void metal_reset(void) {
    metal.reset();
}

void metal_check(void) {
    const char *broken = metal.violation();
    if (broken) {
        print_error("a rule of Metal's was broken: %s\n", broken);
    }
    assert_null(broken);
    assert_int_equal(metal.live(), 0);
}
