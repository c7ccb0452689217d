/* os/process_macos.c - what of process.h is macOS's own. */
#include <crt_externs.h>
#include <fcntl.h>
#include <mach-o/dyld.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/process.h"

/* Libraries there do not see `environ`. */
char **spi_process_environment(void) {
    return *_NSGetEnviron();
}

/* A child that another thread starts between the calls inherits both ends: it may then keep a reader waiting until it
 * ends. */
int spi_process_pipe(int ends[2]) {
    if (pipe(ends)) {
        return -1;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 0;
}

sp_status spi_process_self(char *path, size_t capacity) {
    char told[4096], real[4096];
    uint32_t bytes = sizeof told;
    if (_NSGetExecutablePath(told, &bytes) || !realpath(told, real) || strlen(real) >= capacity) {
        return SP_IO;
    }
    memcpy(path, real, strlen(real) + 1);
    return SP_OK;
}
