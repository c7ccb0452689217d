/* apps/actor_commands.h - the commands behind `samepage actor`, each a constant in cmd_actor_*.c. */
#ifndef SPI_APPS_ACTOR_COMMANDS_H
#define SPI_APPS_ACTOR_COMMANDS_H

#include "apps/options.h"

extern const spi_command spi_actor_create, spi_actor_send, spi_actor_fork, spi_actor_export, spi_actor_import,
    spi_actor_list, spi_actor_show, spi_actor_log, spi_actor_rm, spi_actor_serve;

#endif
