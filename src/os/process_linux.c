/* os/process_linux.c - what of process.h is Linux's own. */
#include <fcntl.h>
#include <unistd.h>

#include "os/process.h"

extern char **environ;

char **spi_process_environment(void) {
    return environ;
}

int spi_process_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC);
}

sp_status spi_process_self(char *path, size_t capacity) {
    ssize_t length = readlink("/proc/self/exe", path, capacity);
    if (length < 0 || (size_t)length >= capacity) {
        return SP_IO;
    }
    path[length] = 0;
    return SP_OK;
}
