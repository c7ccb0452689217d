/* os/local_linux.c - see local.h. */
#include "os/local.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int spi_local_open_folder(const char *path) {
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void set_address(struct sockaddr_un *address, int folder) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/socket", folder);
}

int spi_local_listen(int folder) {
    struct sockaddr_un address;
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlinkat(folder, "socket", 0);
    set_address(&address, folder);
    mode_t before = umask(0177);
    int failed = file < 0 || bind(file, (struct sockaddr *)&address, sizeof address) || listen(file, 64);
    umask(before);
    if (failed && file >= 0) {
        close(file);
    }
    return failed ? -1 : file;
}

int spi_local_connect(int folder) {
    struct sockaddr_un address;
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_address(&address, folder);
    if (file >= 0 && connect(file, (struct sockaddr *)&address, sizeof address)) {
        close(file);
        file = -1;
    }
    return file;
}

int spi_local_accept(int listener, uid_t *user) {
    struct ucred who = {0};
    socklen_t who_bytes = sizeof who;
    int file = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (file >= 0 && getsockopt(file, SOL_SOCKET, SO_PEERCRED, &who, &who_bytes)) {
        close(file);
        return -1;
    }
    *user = who.uid;
    return file;
}

ssize_t spi_local_send(int socket, const void *bytes, size_t count) {
    return send(socket, bytes, count, MSG_NOSIGNAL);
}
