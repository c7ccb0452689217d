/* os/local.h - sockets named "socket" in a folder, between processes of one machine. May include: base.
 *
 * A socket's path may have about a hundred bytes only, a folder's more: the folder is opened, and the socket is reached
 * by way of that. -1 and errno are failures. Descriptors are not inherited.
 */
#ifndef SPI_OS_LOCAL_H
#define SPI_OS_LOCAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int spi_local_open_folder(const char *path);

/* Listens without blocking, in the place of whatever socket the folder has; only its user may connect. */
int spi_local_listen(int folder);

int spi_local_connect(int folder);

/* The next connection, which does not block, and whose it is. -1 too where that cannot be told. */
int spi_local_accept(int listener, uid_t *user);

/* As send; that nobody reads is an error and no signal. */
ssize_t spi_local_send(int socket, const void *bytes, size_t count);

#endif
