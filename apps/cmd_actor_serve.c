/* apps/cmd_actor_serve.c - samepage actor serve: holds the actors until it is told to stop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/actor.h"
#include "apps/actor_commands.h"
#include "os/process.h"

static int stop_ends[2];

/* What the handler may do: the byte wakes whoever waits for requests. */
static void on_stop(int signal) {
    int kept = errno;
    (void)signal;
    (void)!write(stop_ends[1], "", 1);
    errno = kept;
}

static bool catch_stops(void) {
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop;
    action.sa_flags = SA_RESTART;
    if (spi_process_pipe(stop_ends)) {
        return false;
    }
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        sigaction(stops[i], &action, NULL);
    }
    return true;
}

static int serve(spi_actor_common *set, const sp_actors_options *policy) {
    sp_error error = {0};
    spi_port *port = NULL;
    if (!catch_stops()) {
        return spi_complain("cannot wait for signals: %s", strerror(errno));
    }
    set->must_hold = set->may_make = true;
    sp_status status = spi_actor_open(set, policy, &port, &error);
    if (!status) {
        fprintf(stderr, "samepage: actors are served; Ctrl-C ends it\n");
        status = spi_port_serve(port, stop_ends[0], &error);
    }
    spi_port_close(port);
    return status ? spi_complain_error(&error) : SPI_EXIT_OK;
}

static int run(const spi_command *command, int argc, char **argv) {
    spi_actor_common set = {0};
    sp_actors_options policy = {0};
    uint32_t idle_s = 0;
    const spi_option options[] = {
        {"threads", 't', SPI_OPTION_COUNT, "N", "threads that cpu devices compute with", &set.common.threads},
        {"isa", 0, SPI_OPTION_TEXT, "NAME", "instruction set of cpu devices; \"reference\" is plain C",
         &set.common.isa},
        {"awake-max", 0, SPI_OPTION_COUNT, "N", "actors in memory at once (default: 64)", &policy.resident_max},
        {"awake-bytes", 0, SPI_OPTION_SIZE, "SIZE", "memory of their guests (default: 2G)", &policy.resident_bytes_max},
        {"spare-bytes", 0, SPI_OPTION_SIZE, "SIZE", "memory that cards keep of guests asleep (default: 4G; 1: none)",
         &policy.spare_bytes_max},
        {"idle", 0, SPI_OPTION_COUNT, "SECONDS", "after which one is put to sleep (default: 60)", &idle_s},
        {"store-max", 0, SPI_OPTION_SIZE, "SIZE", "KV blocks kept on disk (default: 16G)", &policy.store_bytes_max},
        SPI_OPTIONS_ACTOR(set),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, NULL, "");
    if (result >= 0) {
        return result;
    }
    policy.idle_ms = idle_s > 4000000 ? UINT32_MAX : idle_s * 1000;
    return serve(&set, &policy);
}

const spi_command spi_actor_serve = {
    .name = "actor serve",
    .summary = "hold the actors and answer the other commands",
    .usage = "[OPTIONS]",
    .text =
        "Holds the folder until Ctrl-C or SIGTERM: messages are handled as they come, timers ring, actors that are\n"
        "idle sleep. The other commands find it over a socket in the folder. Models stay loaded, those of actors\n"
        "in memory and the last four of others, so it is the way to answer fast. Killing it at any time loses nothing.",
    .examples = "actor serve\nactor serve --awake-max 200 --idle 300",
    .run = run,
};
