/* server/server.h - actors for many who ask: requests by whatever way they come, answered as things happen.
 *
 *     request {"op": ...} + body ──> requests.c ──> sp_actors
 *     answers {"event": ...} + body, ... the last one {"end": status, "error": ...}
 *
 * requests.c knows requests and answers, with look.c, and nothing of how they travel; socket.c brings them over a Unix
 * socket, port.c out of the same process. HTTP can be a third. docs/actors.md lists the requests.
 *
 * Owns: the actors, while it lives. May include: actor, snapshot, guest, os, base.
 */
#ifndef SPI_SERVER_SERVER_H
#define SPI_SERVER_SERVER_H

#include "samepage/actor.h"
#include "server/frame.h"

typedef struct spi_server spi_server;
typedef struct spi_call spi_call; /* a request that is not yet answered to its end */

/* Gets each answer. head is borrowed. After is_end the call is gone. */
typedef void (*spi_answer)(void *env, const cJSON *head, const void *body, size_t body_bytes, bool is_end);

/* Takes hold of a folder. options->listener is not looked at. Errors as sp_actors_open. */
sp_status spi_server_create(const sp_actors_options *options, spi_server **server, sp_error *error);
void spi_server_destroy(spi_server *server); /* calls in progress end without an answer */
sp_actors *spi_server_actors(spi_server *server);

/* Begins a request; answers may come before it returns. *call is NULL if it is answered already. */
void spi_server_request(spi_server *server, const cJSON *head, const void *body, size_t body_bytes, spi_answer answer,
                        void *env, spi_call **call);
void spi_call_cancel(spi_call *call); /* nobody listens any more; what it asked for goes on */

/* Long answers come in pieces, so that no more of them lies in memory than whoever asked can take: there is another
 * one, and it is not waited for; and have it told, after which the call may be gone. */
bool spi_call_has_more(const spi_call *call);
void spi_call_go_on(spi_call *call);

/* ---- socket.c ---- */

typedef struct spi_socket spi_socket;

/* Listens on folder/socket, 0600, for processes of the same user. */
sp_status spi_socket_open(const char *folder, spi_server *server, spi_socket **sock, sp_error *error);
void spi_socket_close(spi_socket *sock);

/* Sends and receives what there is, waiting at most that long for more. wake is a file to wait for, too, or -1. */
void spi_socket_poll(spi_socket *sock, int timeout_ms, int wake);

/* Connects to whoever listens there. SP_NOT_FOUND: nobody does. */
sp_status spi_socket_connect(const char *folder, int *file, sp_error *error);

/* ---- port.c ---- */

/* A way to the actors of a folder: through the process that holds it, or by holding it. */
typedef struct spi_port spi_port;

typedef struct spi_port_options {
    sp_actors_options actors;
    bool must_hold; /* SP_BUSY if somebody else does */
} spi_port_options;

sp_status spi_port_open(const spi_port_options *options, spi_port **port, sp_error *error);
void spi_port_close(spi_port *port);

typedef void (*spi_port_event)(void *env, const cJSON *head, const void *body, size_t body_bytes);

/* Asks, hands on events, and returns with what the request ended with; *end (may be NULL) gets the last answer, to be
 * deleted. is_repeatable: if the holder goes away, ask whoever holds the folder then. */
sp_status spi_port_call(spi_port *port, const cJSON *request, const void *body, size_t body_bytes, bool is_repeatable,
                        spi_port_event event, void *event_env, cJSON **end, sp_error *error);

/* Serves until wake becomes readable. The port must hold the folder. */
sp_status spi_port_serve(spi_port *port, int wake, sp_error *error);

/* Pid of the holder as it says itself, 0 for this process. */
uint64_t spi_port_holder(spi_port *port);

#endif
