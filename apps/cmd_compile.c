/* apps/cmd_compile.c - samepage compile-module: the child process in which the engine compiles modules.
 *
 * The compiler leaves about 110 MB behind in its process and could be crashed by a hostile module, so that engines run
 * this program for it. The exit code is the status with its sign turned, and stderr has its message as it is.
 */
#include <stdio.h>
#include <string.h>

#include "apps/commands.h"
#include "samepage/guest.h"

static int run(const spi_command *command, int argc, char **argv) {
    sp_error error = {0};
    bool is_metered = argc == 4 && !strcmp(argv[3], "metered");
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        printf("usage: samepage %s %s\n\n%s\n", command->name, command->usage, command->text);
        return SPI_EXIT_OK;
    }
    if (argc != 3 && !is_metered) {
        return spi_usage_error(command, "expected IN.wasm and OUT");
    }
    sp_status status = sp_module_compile_file(argv[1], argv[2], is_metered, &error);
    if (status) {
        fprintf(stderr, "%s\n", error.message);
    }
    return -(int)status;
}

const spi_command spi_command_compile = {
    .name = "compile-module",
    .summary = "compile a module for the engine",
    .usage = "IN.wasm OUT [metered]",
    .text = "Used by samepage itself: compiles a module in a process of its own.",
    .examples = "",
    .run = run,
    .hidden = true,
};
