/* apps/generation.c - see generation.h. */
#include "apps/generation.h"

#include "apps/signals.h"
#include "base/error.h"

void spi_generation_arguments(const spi_generation *set, spi_arguments *arguments) {
    spi_arguments_add(arguments, "samepage"); /* what its messages begin with */
    spi_arguments_add_pair(arguments, "--system", set->system);
    spi_arguments_add_pair(arguments, "-n", set->token_count);
    spi_arguments_add_pair(arguments, "--ctx", set->context);
    spi_arguments_add_pair(arguments, "--temp", set->temperature);
    spi_arguments_add_pair(arguments, "--top-k", set->top_k);
    spi_arguments_add_pair(arguments, "--top-p", set->top_p);
    spi_arguments_add_pair(arguments, "--min-p", set->min_p);
    spi_arguments_add_pair(arguments, "--repeat-penalty", set->repeat_penalty);
    spi_arguments_add_pair(arguments, "--seed", set->seed);
    spi_arguments_add_pair(arguments, "--lookup", set->lookup);
    if (set->stats) {
        spi_arguments_add(arguments, "--stats");
    }
}

int spi_generation_run(const spi_generation *set, const char *name, const spi_arguments *arguments, bool reads,
                       bool is_prompt) {
    sp_error error = {0};
    spi_opened opened = {0};
    spi_runner runner = {0};
    int result;
    sp_status status = arguments->failed ? spi_fail(&error, SP_NO_MEMORY, "not enough memory for the command line")
                                         : spi_check_standard_files(reads, &error);
    status = status ? status : spi_open_both(&set->common, &opened, &error);
    if (!status) {
        sp_guest_model model = {.name = "model", .model = opened.model};
        sp_guest_options options = {
            .arguments = arguments->items,
            .argument_count = arguments->count,
            .inherit_stdin = true,
            .device = opened.device,
            .kv_type = set->common.kv_type,
            .models = &model,
            .model_count = 1,
        };
        status = spi_runner_open_embedded(&runner, name, &options, &error);
    }
    result = status ? spi_complain_error(&error) : spi_runner_main(&runner, is_prompt);
    if (!result && !is_prompt && spi_signals_seen()) {
        result = SPI_EXIT_SIGINT; /* it ended well, but not as far as was asked */
    }
    if (!status && set->common.verbose) {
        spi_runner_report(&runner);
    }
    spi_tell_revived(opened.device, &set->common);
    spi_runner_close(&runner);
    spi_close_both(&opened);
    return result;
}
