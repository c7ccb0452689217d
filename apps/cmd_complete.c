/* apps/cmd_complete.c - samepage complete: the guest "complete" with one prompt. */
#include "apps/commands.h"
#include "apps/generation.h"

enum { STOPS_MAX = 16 }; /* as the guest has it */

/* -1, or what to exit with. */
static int check(const spi_command *command, const spi_generation *set, const spi_list *stops, bool is_chat,
                 bool is_raw) {
    if (is_chat && is_raw) {
        return spi_usage_error(command, "--chat and --raw exclude each other");
    }
    if (set->system && !is_chat) {
        return spi_usage_error(command, "--system goes with --chat");
    }
    if (stops->count > STOPS_MAX) {
        return spi_usage_error(command, "--stop takes at most %d texts", STOPS_MAX);
    }
    for (uint32_t i = 0; i < stops->count; i++) {
        if (!*stops->items[i]) {
            return spi_usage_error(command, "--stop takes a text that is not empty");
        }
    }
    return -1;
}

static int run(const spi_command *command, int argc, char **argv) {
    spi_generation set = {0};
    const char *prompt = NULL;
    spi_list stops = {0};
    bool is_chat = false, is_raw = false, echo = false, ignore_end = false;
    const spi_option options[] = {
        SPI_OPTION_MODEL(set.common),
        {"prompt", 'p', SPI_OPTION_TEXT, "TEXT", "the prompt; without it, standard input", &prompt},
        SPI_OPTIONS_GENERATION(set, "128", "0", "0", "1"),
        {"stop", 0, SPI_OPTION_LIST, "TEXT", "end before this text, which is not shown", &stops},
        {"chat", 0, SPI_OPTION_FLAG, NULL, "the prompt is a message in the model's chat format", &is_chat},
        {"raw", 0, SPI_OPTION_FLAG, NULL, "names of special tokens in the prompt are those tokens", &is_raw},
        {"echo", 0, SPI_OPTION_FLAG, NULL, "print the prompt, too", &echo},
        {"ignore-eos", 0, SPI_OPTION_FLAG, NULL, "go on behind an end of text", &ignore_end},
        SPI_OPTIONS_COMPUTE(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, &set.common,
                                       "; the model goes behind -m, the prompt behind -p");
    result = result >= 0 ? result : check(command, &set, &stops, is_chat, is_raw);
    if (result >= 0) {
        spi_list_free(&stops);
        return result;
    }
    const struct {
        bool given;
        const char *name;
    } flags[] = {{is_chat, "--chat"},
                 {is_raw, "--raw"},
                 {echo, "--echo"},
                 {ignore_end, "--ignore-eos"},
                 {set.common.json, "--json"}};
    spi_arguments arguments = {0};
    spi_generation_arguments(&set, &arguments);
    spi_arguments_add_pair(&arguments, "-p", prompt);
    for (uint32_t i = 0; i < stops.count; i++) {
        spi_arguments_add_pair(&arguments, "--stop", stops.items[i]);
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (flags[i].given) {
            spi_arguments_add(&arguments, flags[i].name);
        }
    }
    if (!prompt && !set.common.quiet) {
        spi_invite("the prompt");
    }
    result = spi_generation_run(&set, "complete", &arguments, !prompt, false);
    spi_arguments_free(&arguments);
    spi_list_free(&stops);
    return result;
}

const spi_command spi_command_complete = {
    .name = "complete",
    .summary = "go on with a text",
    .usage = "-m FILE [-p TEXT] [-n N] [OPTIONS]",
    .text =
        "Prints how the model goes on with the prompt, the likeliest way unless --temp is given. Ctrl-C stops it.\n"
        "--json prints the text, its tokens, why it ended and how fast it came, when it is done.\n"
        "--lookup gives the same text in fewer passes over the weights where it repeats words of the prompt or its\n"
        "own: what followed them before is proposed, verified in one pass, and printed are accepted and proposed.\n"
        "On a GPU several rows are rounded otherwise than one: a token that is as good as another may be chosen.",
    .examples = "complete -m model.gguf -p \"The capital of France is\" -n 16\n"
                "complete -m model.gguf --chat -p \"Why is the sky blue?\" --temp 0.7 --seed 1\n"
                "complete -m model.gguf -n 64 --json < prompt.txt",
    .run = run,
};
