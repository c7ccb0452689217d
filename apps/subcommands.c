/* apps/subcommands.c - see subcommands.h. */
#include "apps/subcommands.h"

#include <stdio.h>
#include <string.h>

static const char *second_word(const spi_command *command) {
    return strchr(command->name, ' ') + 1;
}

static void print_list(const spi_command *group, const spi_command *const *list) {
    printf("samepage %s - %s\n\nusage: samepage %s %s\n\n%s\n\ncommands:\n", group->name, group->summary, group->name,
           group->usage, group->text);
    for (; *list; list++) {
        printf("  %-10s %s\n", second_word(*list), (*list)->summary);
    }
    printf("\n'samepage %s COMMAND --help' says more of each.\n\nexamples:\n", group->name);
    for (const char *line = group->examples; *line;) {
        size_t bytes = strcspn(line, "\n");
        printf("  samepage %.*s\n", (int)bytes, line);
        line += bytes + (line[bytes] == '\n');
    }
}

int spi_run_subcommand(const spi_command *group, const spi_command *const *list, int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_list(group, list);
        return SPI_EXIT_OK;
    }
    for (const spi_command *const *found = list; *found; found++) {
        if (!strcmp(second_word(*found), name)) {
            return (*found)->run(*found, argc - 1, argv + 1);
        }
    }
    return *name ? spi_usage_error(group, "no command '%s %s'", group->name, name)
                 : spi_usage_error(group, "'%s' needs a command", group->name);
}
