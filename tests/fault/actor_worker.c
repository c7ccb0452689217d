/* tests/fault/actor_worker.c - the program that the fault suite kills, starves and lies to: test_actor_fault.c runs it.
 *
 *   actor_worker run FOLDER MODEL CACHE GUEST          sends what the script has, with a key each, until all is handled; prints
 *                                                "ack N" when message N and everything that came of it is durable
 *   actor_worker recover FOLDER MODEL CACHE GUEST N    the same after a disturbance: first that messages up to N are there and
 *                                                that every actor is at exactly one commit for each message that is done;
 *                                                then the rest of the script; then everything that the actors know
 *
 *   actor_worker wake FOLDER MODEL CACHE GUEST          wakes the actor "two"
 *
 * Exit codes: 0, 3 something failed and was told (one line on stdout that begins with "error:"), 4 something is
 * wrong. */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actor/sql.h"
#include "os/file.h"
#include "samepage/actor.h"

#define EXIT_TOLD  3
#define EXIT_WRONG 4

typedef struct step {
    const char *actor, *text; /* actor NULL: something else than a message */
} step;

/* "!fork A B", "!carry A B", "!sleep A" and "!fold A" are not messages. */
static const step script[] = {
    {"one", "count"},          {"one", "fill 9000"},     {"two", "think 6 hello"}, {"one", "send two count"},
    {NULL, "!sleep one"},      {"one", "count"},         {"two", "think 5 again"}, {"two", "timer 1 tea"},
    {"one", "trap"},           {NULL, "!fold two"},      {"two", "think 70 more"}, {NULL, "!fork two three"},
    {"three", "think 3 x"},    {"one", "send two trap"}, {NULL, "!sleep two"},     {"two", "think 3 x"},
    {NULL, "!carry one four"}, {"four", "count"},        {"one", "count"},         {"one", "heard"},
    {"two", "heard"},          {"one", "sum"},           {"two", "sum"},           {"three", "sum"},
    {"four", "sum"},
};
#define STEPS ((int)(sizeof script / sizeof *script))

static sp_error error;
static bool was_held;
static int notices; /* of things that are tried again later, such as timers that cannot ring */

static int told(void) {
    printf("error: %s\n", error.message[0] ? error.message : sp_status_text(error.status));
    return EXIT_TOLD;
}

static void listen_to(void *env, const sp_actor_event *event) {
    (void)env;
    if (event->kind == SP_ACTOR_EVENT_HELD) {
        snprintf(error.message, sizeof error.message, "%s is held: %s", event->actor, event->text);
        was_held = true;
    } else if (event->kind == SP_ACTOR_EVENT_WOKEN && event->woken->restore.computed_tokens) {
        printf("%u tokens of %s were computed again\n", event->woken->restore.computed_tokens, event->actor);
    } else if (event->kind == SP_ACTOR_EVENT_NOTICE) {
        snprintf(error.message, sizeof error.message, "%s", event->text);
        notices++;
    }
}

/* Until nothing is left to do, timers included. */
static sp_status settle(sp_actors *actors) {
    int before = notices;
    for (;;) {
        uint32_t next_ms;
        uint64_t timers = 0;
        char name[SP_ACTOR_NAME_BYTES_MAX + 1] = "";
        sp_status status = SP_OK;
        bool is_idle = sp_actors_step(actors, 50, &next_ms) == SP_TIMEOUT;
        if (was_held) {
            return SP_IO;
        }
        while (is_idle && !(status = sp_actors_next(actors, name, name, &error)) && *name) {
            sp_actor_info info;
            if ((status = sp_actor_get_info(actors, name, &info, &error))) {
                return status;
            }
            timers += info.timers;
        }
        if (status || (is_idle && !timers)) {
            return status;
        }
        if (is_idle && notices > before + 1) { /* a timer did not ring twice, for want of a disk: it never will here */
            return SP_IO;
        }
        usleep(200);
    }
}

static bool exists(sp_actors *actors, const char *name) {
    sp_actor_info info;
    return !sp_actor_get_info(actors, name, &info, NULL);
}

static sp_status create(sp_actors *actors, const char *name, const char *model, const char *guest) {
    void *wasm;
    size_t bytes;
    if (exists(actors, name)) {
        return SP_OK;
    }
    sp_status status = spi_file_read(guest, (size_t)1 << 24, &wasm, &bytes, &error);
    if (status) {
        return status;
    }
    sp_actor_model models[] = {{"demo", model}};
    sp_actor_spec spec = {.wasm = wasm,
                          .wasm_bytes = bytes,
                          .module_name = "actor",
                          .models = models,
                          .model_count = 1,
                          .device = "cpu",
                          .failures_max = 2};
    status = sp_actor_create(actors, name, &spec, &error);
    free(wasm);
    return status;
}

static sp_status do_other(sp_actors *actors, const char *text, const char *folder) {
    char verb[16], a[32] = "", b[32] = "", path[4096];
    sscanf(text, "!%15s %31s %31s", verb, a, b);
    snprintf(path, sizeof path, "%s/../carried.snap", folder);
    if (!strcmp(verb, "fork") && !exists(actors, b)) {
        return sp_actor_fork(actors, a, b, &error);
    }
    if (!strcmp(verb, "carry") && !exists(actors, b)) {
        sp_status status = sp_actor_export(actors, a, path, &error);
        return status ? status : sp_actor_import(actors, b, path, NULL, &error);
    }
    if (!strcmp(verb, "fold")) {
        return sp_actor_fold(actors, a, &error);
    }
    return !strcmp(verb, "sleep") ? sp_actor_sleep(actors, a, &error) : SP_OK;
}

static int run(sp_actors *actors, const char *folder, const char *model, const char *guest) {
    sp_status status = create(actors, "one", model, guest);
    status = status ? status : create(actors, "two", model, guest);
    status = status ? status : settle(actors);
    for (int i = 0; i < STEPS && !status; i++) {
        char key[16];
        uint64_t id;
        snprintf(key, sizeof key, "k%d", i);
        if (script[i].actor) {
            status = sp_actor_send(actors, script[i].actor, script[i].text, (uint32_t)strlen(script[i].text), key, &id,
                                   &error);
        } else {
            status = do_other(actors, script[i].text, folder);
        }
        status = status ? status : settle(actors);
        if (!status) {
            char line[16];
            fflush(stdout);
            (void)!write(1, line, (size_t)snprintf(line, sizeof line, "ack %d\n", i)); /* record_shim.c sees it */
        }
    }
    if (!status && getenv("DIE_AT_END")) {
        raise(SIGKILL); /* the database is not closed, so that its log stays */
    }
    return status ? told() : 0;
}

/* ---- checking ---- */

/* Commits are as many as messages that are done: no effect without its message, no message without its effect. */
static int check_actor(sp_actors *actors, const char *name, bool shows) {
    sp_actor_info info;
    sp_letter letter;
    uint64_t after = 0, done = 0;
    bool found;
    if (sp_actor_get_info(actors, name, &info, &error)) {
        return told();
    }
    for (;;) {
        if (sp_actor_log(actors, name, after, 0, &letter, &found, &error)) {
            return told();
        }
        if (!found) {
            break;
        }
        after = letter.id;
        done += letter.status == SP_LETTER_DONE;
        bool is_number =
            !strncmp(letter.text, "send", 4); /* a message's number differs if there was a failure before */
        if (shows) {
            printf("%s %u %d %s > %s\n", name, letter.kind, letter.status, letter.text, is_number ? "" : letter.reply);
        }
    }
    if (done != info.commits) {
        printf("wrong: %s has %" PRIu64 " commits and %" PRIu64 " messages done\n", name, info.commits, done);
        return EXIT_WRONG;
    }
    return 0;
}

static int check_all(sp_actors *actors, bool shows) {
    char name[SP_ACTOR_NAME_BYTES_MAX + 1] = "";
    int result = 0;
    sp_status status = SP_OK;
    while (!result && !(status = sp_actors_next(actors, name, name, &error)) && *name) {
        result = check_actor(actors, name, shows);
    }
    return result ? result : status ? told() : 0;
}

/* What was acknowledged is there: sending it again sends nothing. */
static int check_acknowledged(sp_actors *actors, int last) {
    for (int i = 0; i <= last; i++) {
        char key[16];
        uint64_t id = 0;
        sp_letter letter;
        bool found = false;
        snprintf(key, sizeof key, "k%d", i);
        if (!script[i].actor) {
            continue;
        }
        if (sp_actor_send(actors, script[i].actor, script[i].text, (uint32_t)strlen(script[i].text), key, &id,
                          &error) ||
            sp_actor_log(actors, script[i].actor, id - 1, 0, &letter, &found, &error)) {
            return told();
        }
        if (!found || letter.id != id || letter.status == SP_LETTER_QUEUED) {
            printf("wrong: message %d was acknowledged and is gone\n", i);
            return EXIT_WRONG;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        return 2;
    }
    const char *folder = argv[2], *model = argv[3], *cache = argv[4], *guest = argv[5];
    const sp_engine_options engine = {.cache_folder = cache, .compiler = ""};
    const sp_actors_options options = {
        .folder = folder, .thread_count = 1, .engine = &engine, .listener = listen_to, .idle_ms = 100000};
    sp_actors *actors;
    bool is_recovery = !strcmp(argv[1], "recover");
    const char *log_pages = getenv("LOG_PAGES");
    spi_sql_log_pages_max = log_pages ? atoi(log_pages) : spi_sql_log_pages_max;
    syscall(SYS_getpriority, 77, 0); /* from here on the suite counts */
    if (sp_actors_open(&options, &actors, &error)) {
        return told();
    }
    if (!strcmp(argv[1], "wake")) {
        int woken = sp_actor_fold(actors, "two", &error) ? told() : 0;
        sp_actors_close(actors);
        return woken;
    }
    int result = is_recovery ? check_all(actors, false) : 0;
    result = result || !is_recovery || argc < 7 ? result : check_acknowledged(actors, atoi(argv[6]));
    result = result ? result : run(actors, folder, model, guest);
    if (!result && is_recovery) {
        printf("--\n");
        result = check_all(actors, true);
    }
    sp_actors_close(actors);
    return result;
}
