/* server/calls.h - a call: a request that is being answered. What requests.c and look.c share; private to this folder.
 *
 * May include: what server.h may.
 */
#ifndef SPI_SERVER_CALLS_H
#define SPI_SERVER_CALLS_H

#include "guest/list.h"
#include "server/server.h"

struct spi_server {
    sp_actors *actors;
    spi_list calls; /* that wait for a message to be handled, and the one that is run */
};

/* What is asked. Borrowed, and good while the operation runs. */
typedef struct spi_request {
    const cJSON *head;
    const void *body;
    size_t body_bytes;
} spi_request;

/* Answers with events; what it returns ends the call, unless that goes on. */
typedef sp_status (*spi_operation)(spi_call *call, const spi_request *request, sp_error *error);

struct spi_call {
    spi_link_node node;
    spi_server *server;
    spi_answer answer;
    void *env;
    char actor[SP_ACTOR_NAME_BYTES_MAX + 1];
    uint64_t message; /* 0: no particular one */

    /* Of one whose answers have no limit: they are told in pieces, the next one when the last is on its way. */
    spi_operation go_on; /* set by an operation that is not through: with what, without a request; NULL: it is */
    size_t told_bytes;   /* in this piece, about */
    uint64_t after;      /* the letter that was told last */
    char listed[SP_ACTOR_NAME_BYTES_MAX + 1]; /* the actor that was told last */
};

#define SPI_PIECE_BYTES ((size_t)1 << 20)

/* The head of an answer; event may be NULL. */
cJSON *spi_call_head(const char *name, const sp_actor_event *event);
/* Answers with an event, and deletes the head. */
void spi_call_tell(spi_call *call, cJSON *head, const void *body, size_t body_bytes);

/* look.c: what is asked about actors, and about their store */
sp_status spi_look_hello(spi_call *call, const spi_request *request, sp_error *error);
sp_status spi_look_list(spi_call *call, const spi_request *request, sp_error *error);
sp_status spi_look_show(spi_call *call, const spi_request *request, sp_error *error);
sp_status spi_look_log(spi_call *call, const spi_request *request, sp_error *error);
sp_status spi_look_store(spi_call *call, const spi_request *request, sp_error *error);
sp_status spi_look_snapshot(spi_call *call, const spi_request *request, sp_error *error);

#endif
