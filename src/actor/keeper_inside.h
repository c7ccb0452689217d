/* actor/keeper_inside.h - the keeper on SQLite, for keeper_*.c. May include: what keeper.h may. */
#ifndef SPI_ACTOR_KEEPER_INSIDE_H
#define SPI_ACTOR_KEEPER_INSIDE_H

#include "actor/keeper.h"
#include "actor/seal.h"
#include "actor/sql.h"

struct spi_keeper {
    spi_sql *sql;
    spi_seal seal;
    bool is_open; /* a bracket is */
    bool is_lazy; /* the bracket that is open */
    bool without_sync;
    int mark;                /* mark.h; -1: none */
    uint64_t changed_before; /* rows, as of the bracket's beginning */
    uint64_t last_id;
    char *log_text, *log_reply, *log_reason;
};

/* A bracket around one thing, unless the caller has one already. */
sp_status spi_keeper_enter(spi_keeper *keeper, bool *is_own, bool lazy, sp_error *error);
sp_status spi_keeper_leave(spi_keeper *keeper, bool is_own, sp_status status, sp_error *error);

#endif
