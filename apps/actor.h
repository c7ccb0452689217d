/* apps/actor.h - what the commands about actors have in common: which folder, and a way to its actors.
 *
 * May include: everything to the left of apps.
 */
#ifndef SPI_APPS_ACTOR_H
#define SPI_APPS_ACTOR_H

#include "apps/common.h"
#include "server/server.h"

typedef struct spi_actor_common {
    spi_common common;
    const char *folder, *key_path;
    bool must_hold, may_make; /* the folder, if there is none */
    uint8_t key[SP_STORE_KEY_BYTES];
} spi_actor_common;

#define SPI_OPTIONS_ACTOR(set)                                                                                         \
    {"data", 0, SPI_OPTION_TEXT, "FOLDER", "where actors are kept (default: $XDG_DATA_HOME/samepage)", &(set).folder}, \
    {                                                                                                                  \
        "key", 0, SPI_OPTION_TEXT, "FILE", "32 bytes that encrypt it, or $SAMEPAGE_KEY_FILE", &(set).key_path          \
    }

/* Whether there is a folder at all: who only looks makes none. */
sp_status spi_actor_find(const spi_actor_common *set, bool *is_there, sp_error *error);

/* Opens the port. set must outlive it. SP_NOT_FOUND: there is no folder, and set may not make one. */
sp_status spi_actor_open(spi_actor_common *set, const sp_actors_options *more, spi_port **port, sp_error *error);

/* The key of a file; *key is NULL if none is named and the environment has none. */
sp_status spi_actor_read_key(const char *path, uint8_t bytes[SP_STORE_KEY_BYTES], const uint8_t **key, sp_error *error);

/* A saved or exported state, encrypted or not; close it with sp_snapshot_close. *snapshot is NULL on failure. */
sp_status spi_actor_open_file(const char *path, const char *key_path, sp_snapshot **snapshot, sp_error *error);

/* {"op": op, "name": name}. */
cJSON *spi_actor_request(const char *op, const char *name);

/* Complains of an answer that says all went well and has nothing of what was asked for. */
int spi_actor_complain_of_nothing(void);

/* Opens, asks, closes; prints the error if there is one. The request is deleted. */
int spi_actor_ask(spi_actor_common *set, cJSON *request, const void *body, size_t body_bytes, spi_port_event event,
                  void *env);

/* "NAME=FILE" or "FILE" lists to {"models": [{name, path}]}, paths made absolute. */
sp_status spi_actor_add_models(cJSON *request, const spi_list *models, sp_error *error);

/* A path that another process understands, too; from spi_alloc. The file need not be there. */
char *spi_actor_absolute(const char *path);

/* Notices on stderr, with -v also what was woken and committed. For events that a command does not know itself. */
void spi_actor_tell(const spi_common *common, const cJSON *head, const void *body, size_t body_bytes);

#endif
