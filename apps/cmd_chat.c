/* apps/cmd_chat.c - samepage chat: the guest "chat" with this terminal and a model. */
#include <unistd.h>

#include "apps/commands.h"
#include "apps/generation.h"

static int run(const spi_command *command, int argc, char **argv) {
    spi_generation set = {0};
    bool is_script = false;
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        SPI_OPTIONS_DEVICE(set.common),
        SPI_OPTION_KV(set.common),
        SPI_OPTIONS_GENERATION(set, "512", "0.7", "40", "0.95"),
        {"script", 0, SPI_OPTION_FLAG, NULL, "repeat each line that is read, as a transcript does", &is_script},
        SPI_OPTION_VERBOSE(set.common),
        SPI_OPTION_QUIET(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common, "; the model goes behind -m");
    if (result >= 0) {
        return result;
    }
    spi_arguments arguments = {0};
    bool is_prompt = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !is_script;
    spi_generation_arguments(&set, &arguments);
    if (is_prompt) {
        spi_arguments_add(&arguments, "--prompt");
    }
    if (is_script) {
        spi_arguments_add(&arguments, "--script");
    }
    result = spi_generation_run(&set, "chat", &arguments, true, true);
    spi_arguments_free(&arguments);
    return result;
}

const spi_command spi_command_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .usage = "-m FILE [OPTIONS]",
    .text = "Reads lines and answers each, in the format that the model was trained on. /help lists the commands\n"
            "inside: /clear, /stats, /quit. Ctrl-C stops an answer; at the prompt it ends the chat, as does Ctrl-D.\n"
            "--lookup gives the same answers in fewer passes over the weights where they repeat what was said (see\n"
            "complete --help).\n"
            "The chat is a WebAssembly guest that is built into this program: there is no other path for it.",
    .examples = "chat -m model.gguf\n"
                "chat -m model.gguf --system \"Answer in one sentence.\" --temp 0\n"
                "chat -m model.gguf -d vulkan --stats < questions.txt",
    .run = run,
};
