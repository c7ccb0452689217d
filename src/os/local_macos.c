/* os/local_macos.c - see local.h. There is no /proc to reach an open folder by: the folder's path is asked for, and if
 * it is too long for a socket, a link to it with a short name stands in for it while the socket is made. */
#include "os/local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int spi_local_open_folder(const char *path) {
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

typedef struct name {
    struct sockaddr_un address;
    char room[32]; /* of the link; empty: none is needed */
    char link[40];
} name;

static void let_go(const name *of) {
    if (of->room[0]) {
        int kept = errno;
        unlink(of->link);
        rmdir(of->room);
        errno = kept;
    }
}

static int find_name(name *of, int folder) {
    char path[PATH_MAX];
    *of = (name){.address = {.sun_family = AF_UNIX}};
    if (fcntl(folder, F_GETPATH, path)) {
        return -1;
    }
    if (strlen(path) + sizeof "/socket" <= sizeof of->address.sun_path) {
        snprintf(of->address.sun_path, sizeof of->address.sun_path, "%s/socket", path);
        return 0;
    }
    snprintf(of->room, sizeof of->room, "/tmp/samepage-XXXXXX");
    if (!mkdtemp(of->room)) {
        of->room[0] = 0;
        return -1;
    }
    snprintf(of->link, sizeof of->link, "%s/to", of->room);
    if (symlink(path, of->link)) {
        let_go(of);
        return -1;
    }
    snprintf(of->address.sun_path, sizeof of->address.sun_path, "%s/socket", of->link);
    return 0;
}

/* Closed in children, and silent when nobody reads. */
static int settle(int file, int flags) {
    int on = 1;
    if (file >= 0) {
        fcntl(file, F_SETFD, FD_CLOEXEC);
        fcntl(file, F_SETFL, flags);
        setsockopt(file, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
    }
    return file;
}

static int close_failed(int file) {
    int kept = errno;
    if (file >= 0) {
        close(file);
    }
    errno = kept;
    return -1;
}

int spi_local_listen(int folder) {
    name at;
    (void)unlinkat(folder, "socket", 0);
    if (find_name(&at, folder)) {
        return -1;
    }
    int file = settle(socket(AF_UNIX, SOCK_STREAM, 0), O_NONBLOCK);
    mode_t before = umask(0177);
    int failed = file < 0 || bind(file, (struct sockaddr *)&at.address, sizeof at.address) || listen(file, 64);
    umask(before);
    let_go(&at);
    return failed ? close_failed(file) : file;
}

int spi_local_connect(int folder) {
    name at;
    if (find_name(&at, folder)) {
        return -1;
    }
    int file = settle(socket(AF_UNIX, SOCK_STREAM, 0), 0);
    int failed = file < 0 || connect(file, (struct sockaddr *)&at.address, sizeof at.address);
    let_go(&at);
    return failed ? close_failed(file) : file;
}

int spi_local_accept(int listener, uid_t *user) {
    gid_t group;
    int file = settle(accept(listener, NULL, NULL), O_NONBLOCK);
    return file >= 0 && getpeereid(file, user, &group) ? close_failed(file) : file;
}

/* Without a signal because of what settle set. */
ssize_t spi_local_send(int socket, const void *bytes, size_t count) {
    return send(socket, bytes, count, 0);
}
