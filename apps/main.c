/* apps/main.c - the samepage program: finds the command and runs it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "apps/commands.h"
#include "samepage/version.h"

static const spi_command *const commands[] = {
    &spi_command_doctor, &spi_command_chat,     &spi_command_complete,   &spi_command_run,      &spi_command_bench,
    &spi_command_actor,  &spi_command_snapshot, &spi_command_store,      &spi_command_tokenize, &spi_command_logits,
    &spi_command_model,  &spi_command_quantize, &spi_command_perplexity, &spi_command_compile,
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static const spi_command *find(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (!strcmp(commands[i]->name, name)) {
            return commands[i];
        }
    }
    return NULL;
}

static void print_help(FILE *file) {
    fputs("samepage runs WebAssembly guests that do AI inference in the memory that they already own.\n\n"
          "usage: samepage COMMAND [OPTIONS]\n\ncommands:\n",
          file);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (!commands[i]->hidden) {
            fprintf(file, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
        }
    }
    fputs("\n'samepage COMMAND --help' says more of each; --version prints the version.\n"
          "Exit codes: 0 it worked, 1 it did not, 2 the command line is wrong. `run` passes its guest's on.\n\n"
          "examples:\n"
          "  samepage doctor\n"
          "  samepage chat -m model.gguf\n"
          "  samepage run guest.wasm -m model.gguf -- hello\n",
          file);
}

/* "help NAME" is "NAME --help", and of "actor", whose commands have two words, "help actor send" is. */
static int help(int argc, char **argv) {
    const spi_command *command = argc > 1 ? find(argv[1]) : NULL;
    if (argc > 1 && !command) {
        spi_complain("no command '%s'; 'samepage --help' lists them", argv[1]);
        return SPI_EXIT_USAGE;
    }
    if (!command) {
        print_help(stdout);
        return SPI_EXIT_OK;
    }
    static char option[] = "--help";
    return argc > 2 ? command->run(command, 3, (char *[]){argv[1], argv[2], option, NULL})
                    : command->run(command, 2, (char *[]){argv[1], option, NULL});
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return SPI_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h")) {
        return help(argc - 1, argv + 1);
    }
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("samepage %s (Wasmtime %s)\n", sp_version(), sp_wasmtime_version());
        return SPI_EXIT_OK;
    }
    const spi_command *command = find(name);
    if (!command) {
        spi_complain("no command '%s'; 'samepage --help' lists them", name);
        return SPI_EXIT_USAGE;
    }
    return command->run(command, argc - 1, argv + 1);
}

/* A file that is opened later must not take the place of a standard one that the caller closed: what is told to people
 * would be written into it. What was closed stays of no use: reading from it fails, or writing to it. */
static bool hold_standard_files(void) {
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++) {
        if (fcntl(file, F_GETFD) < 0 && open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY) != file) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv) {
    if (!hold_standard_files()) {
        return SPI_EXIT_FAILURE; /* and nowhere to say why */
    }
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow (ulimit -f) is a write that fails, and is told as one */
    int result = dispatch(argc, argv);
    if (fflush(stdout) || ferror(stdout)) {
        spi_complain("cannot write to standard output: %s", strerror(errno));
        return result ? result : SPI_EXIT_FAILURE;
    }
    return result;
}
