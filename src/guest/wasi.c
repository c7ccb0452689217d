/* guest/wasi.c - what a guest sees of the system: arguments, environment, folders and standard streams.
 *
 * WASI preview 1 is Wasmtime's own. May include: base.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/guest.h"

/* What custom streams write to. Wasmtime writes to them on a thread of its own, on which the guest's call waits, unless
 * the guest made its stream non-blocking: then a write may come at any time, even after the guest's end. So this is
 * shared by the guest and both streams, whoever lets go last frees it, and the guest's end cuts the callbacks off. */
struct spi_output {
    pthread_mutex_t lock;
    atomic_uint owners;
    atomic_uint steps;        /* both sides add to it: what came before a step of one is seen after the other's next */
    sp_guest_output out, err; /* NULL: cut off */
    void *env;
};

static void let_go(void *shared) {
    spi_output *output = shared;
    if (output && atomic_fetch_sub(&output->owners, 1) == 1) {
        pthread_mutex_destroy(&output->lock);
        spi_free(output);
    }
}

static void write_locked(spi_output *output, sp_guest_output *callback, const unsigned char *bytes, size_t count) {
    pthread_mutex_lock(&output->lock);
    atomic_fetch_add(&output->steps, 1);
    if (*callback) {
        (*callback)(output->env, bytes, count);
    }
    atomic_fetch_add(&output->steps, 1);
    pthread_mutex_unlock(&output->lock);
}

static ptrdiff_t write_out(void *shared, const unsigned char *bytes, size_t count) {
    spi_output *output = shared;
    write_locked(output, &output->out, bytes, count);
    return (ptrdiff_t)count;
}

static ptrdiff_t write_err(void *shared, const unsigned char *bytes, size_t count) {
    spi_output *output = shared;
    write_locked(output, &output->err, bytes, count);
    return (ptrdiff_t)count;
}

void spi_wasi_settle(sp_guest *guest) {
    if (guest->output) {
        atomic_fetch_add(&guest->output->steps, 1);
    }
}

void spi_wasi_destroy(sp_guest *guest) {
    spi_output *output = guest->output;
    if (output) {
        pthread_mutex_lock(&output->lock);
        output->out = output->err = NULL;
        pthread_mutex_unlock(&output->lock);
        let_go(output);
    }
    guest->output = NULL;
}

static sp_status set_streams(wasi_config_t *config, sp_guest *guest, const sp_guest_options *options, sp_error *error) {
    if (options->inherit_stdin) {
        wasi_config_inherit_stdin(config);
    }
    if (options->out || options->err) {
        spi_output *output = spi_alloc(1, sizeof *output);
        if (!output) {
            return spi_fail(error, SP_NO_MEMORY, "no memory for a guest");
        }
        *output = (spi_output){.owners = 1, .out = options->out, .err = options->err, .env = options->output_env};
        pthread_mutex_init(&output->lock, NULL);
        guest->output = output;
    }
    if (options->out) {
        atomic_fetch_add(&guest->output->owners, 1);
        wasi_config_set_stdout_custom(config, write_out, guest->output, let_go);
    } else {
        wasi_config_inherit_stdout(config);
    }
    if (options->err) {
        atomic_fetch_add(&guest->output->owners, 1);
        wasi_config_set_stderr_custom(config, write_err, guest->output, let_go);
    } else {
        wasi_config_inherit_stderr(config);
    }
    return SP_OK;
}

/* A program has a name at least. (wasi-libc then calls malloc before main, which memory.c has reason to like.) */
static sp_status set_arguments(wasi_config_t *config, const sp_guest *guest, const sp_guest_options *options,
                               sp_error *error) {
    const char *only[] = {guest->module->name};
    /* The official type lacks a const that the function keeps. */
    const char **arguments = options->argument_count ? (const char **)(uintptr_t)options->arguments : only;
    if (!wasi_config_set_argv(config, options->argument_count ? options->argument_count : 1, arguments)) {
        return spi_fail(error, SP_INVALID,
                        "an argument for the guest is not UTF-8: such bytes go through a file or its input");
    }
    return SP_OK;
}

static sp_status set_environment(wasi_config_t *config, const sp_guest_options *options, sp_error *error) {
    for (uint32_t i = 0; i < options->environment_count; i++) {
        const char *pair = options->environment[i], *equals = strchr(pair, '=');
        if (!equals || equals == pair) {
            return spi_fail(error, SP_INVALID, "the environment entry \"%.80s\" is not of the form KEY=VALUE", pair);
        }
        char *name = spi_copy_string(pair, (size_t)(equals - pair));
        if (!name) {
            return spi_fail(error, SP_NO_MEMORY, "no memory for a guest's environment");
        }
        const char *names[] = {name}, *values[] = {equals + 1};
        bool is_set = wasi_config_set_env(config, 1, names, values);
        spi_free(name);
        if (!is_set) {
            return spi_fail(error, SP_INVALID, "the environment entry \"%.80s\" is not UTF-8", pair);
        }
    }
    return SP_OK;
}

static sp_status open_folders(wasi_config_t *config, const sp_guest_options *options, sp_error *error) {
    for (uint32_t i = 0; i < options->folder_count; i++) {
        const sp_guest_folder *folder = &options->folders[i];
        struct stat info;
        if (stat(folder->host_path, &info)) {
            return spi_fail(error, errno == ENOENT ? SP_NOT_FOUND : SP_IO,
                            "the folder %s cannot be given to a guest: %s", folder->host_path, strerror(errno));
        }
        if (!S_ISDIR(info.st_mode)) {
            return spi_fail(error, SP_INVALID, "%s is not a folder: a guest is given folders only", folder->host_path);
        }
        if (!wasi_config_preopen_dir(config, folder->host_path, folder->guest_path, folder->writable)) {
            return spi_fail(error, SP_IO,
                            "the folder %s cannot be opened for a guest: is it readable, and its name UTF-8?",
                            folder->host_path);
        }
    }
    return SP_OK;
}

sp_status spi_wasi_create(sp_guest *guest, const sp_guest_options *options, sp_error *error) {
    wasi_config_t *config = wasi_config_new();
    sp_status status = set_streams(config, guest, options, error);
    status = status ? status : set_arguments(config, guest, options, error);
    status = status ? status : set_environment(config, options, error);
    status = status ? status : open_folders(config, options, error);
    if (status) {
        wasi_config_delete(config);
        return status;
    }
    wasmtime_error_t *failure = wasmtime_context_set_wasi(guest->context, config);
    return failure ? spi_wasmtime_fail(error, SP_INTERNAL, "cannot set up WASI", failure) : SP_OK;
}
