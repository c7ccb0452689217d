/* apps/subcommands.h - commands of two words, such as `actor send`. May include: everything to the left of apps. */
#ifndef SPI_APPS_SUBCOMMANDS_H
#define SPI_APPS_SUBCOMMANDS_H

#include "apps/options.h"

/* Runs the one that argv[1] names; --help lists them. The list ends with NULL. A row's name has both words. */
int spi_run_subcommand(const spi_command *group, const spi_command *const *list, int argc, char **argv);

#endif
