/* os/process.h - running this program again as a child. May include: base. */
#ifndef SPI_OS_PROCESS_H
#define SPI_OS_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

/* Runs argv[0] with argv (NULL at the end), waits at most timeout_ms (the child is killed after it: SP_TIMEOUT), and
 * gives its exit code, or 128 + signal. SP_IO: it cannot be started, or how it ended cannot be known. What it prints to
 * stderr, at most capacity - 1 bytes, goes to output. */
sp_status spi_process_run(const char *const argv[], int64_t timeout_ms, int *exit_code, char *output, size_t capacity,
                          sp_error *error);

/* A pipe that children do not inherit; what children are given as environment. */
int spi_process_pipe(int ends[2]);
char **spi_process_environment(void);

/* The path of the running program. */
sp_status spi_process_self(char *path, size_t capacity);

#endif
