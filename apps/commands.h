/* apps/commands.h - the list of commands; each is a constant in cmd_NAME.c. */
#ifndef SPI_APPS_COMMANDS_H
#define SPI_APPS_COMMANDS_H

#include "apps/options.h"

extern const spi_command spi_command_doctor, spi_command_chat, spi_command_complete, spi_command_run,
    spi_command_tokenize, spi_command_logits, spi_command_bench, spi_command_model, spi_command_compile,
    spi_command_quantize, spi_command_perplexity, spi_command_actor, spi_command_snapshot, spi_command_store;

#endif
