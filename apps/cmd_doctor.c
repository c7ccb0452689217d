/* apps/cmd_doctor.c - samepage doctor: what this machine is, and each device's link with its proof. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "apps/commands.h"
#include "apps/doctor.h"
#include "base/error.h"
#include "base/memory.h"
#include "device/bandwidth.h"
#include "os/cpu.h"
#include "os/file.h"
#include "samepage/version.h"

enum { ELEMENTS = SPI_DOCTOR_SIDE * SPI_DOCTOR_SIDE };

typedef struct settings {
    spi_common common;
    bool full;
} settings;

typedef struct machine {
    char processor[160], features[160], kernel[200], huge_pages[32], cache_folder[4096];
    uint32_t threads;
    double read_gb_per_s; /* 0: not measured */
} machine;

/* ---- the machine ---- */

static void get_features(char *text, size_t capacity) {
    const spi_cpu_features *has = spi_cpu_get_features();
    const struct {
        bool present;
        const char *name;
    } list[] = {
        {has->avx2_fma_f16c, "avx2"},
        {has->avx512, "avx512"},
        {has->avx512_vnni, "avx512-vnni"},
        {has->avx512_bf16, "avx512-bf16"},
        {has->amx_int8, "amx-int8"},
        {has->amx_bf16, "amx-bf16"},
        {has->neon, "neon"},
        {has->dotprod, "dotprod"},
        {has->i8mm, "i8mm"},
        {has->bf16, "bf16"},
        {has->fp16, "fp16"},
    };
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].present && used < capacity) {
            used += (size_t)snprintf(text + used, capacity - used, "%s%s", used ? " " : "", list[i].name);
        }
    }
    if (!used) {
        snprintf(text, capacity, "none that kernels use");
    }
}

/* The word in brackets: "always [madvise] never". */
static void get_huge_pages(char *word, size_t capacity) {
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    char line[128] = "", *open, *close;
    if (file) {
        if (!fgets(line, sizeof line, file)) {
            line[0] = 0;
        }
        fclose(file);
    }
    open = strchr(line, '[');
    close = open ? strchr(open, ']') : NULL;
    snprintf(word, capacity, "%.*s", close ? (int)(close - open - 1) : 7, close ? open + 1 : "unknown");
}

static void get_machine(machine *told) {
    struct utsname system;
    spi_cpu_name(told->processor, sizeof told->processor);
    get_features(told->features, sizeof told->features);
    get_huge_pages(told->huge_pages, sizeof told->huge_pages);
    told->threads = spi_cpu_thread_count();
    if (!uname(&system)) {
        snprintf(told->kernel, sizeof told->kernel, "%s %s %s", system.sysname, system.release, system.machine);
    }
    if (spi_folder_cache(told->cache_folder, sizeof told->cache_folder)) {
        snprintf(told->cache_folder, sizeof told->cache_folder, "none");
    }
}

/* ---- printing ---- */

static void print_machine(const machine *told) {
    printf("samepage      %s, Wasmtime %s\n", sp_version(), sp_wasmtime_version());
    printf("processor     %s\n", told->processor);
    printf("instructions  %s\n", told->features);
    printf("threads       %" PRIu32 "\n", told->threads);
    printf("kernel        %s, huge pages: %s\n", told->kernel, told->huge_pages);
    printf("cache folder  %s\n", told->cache_folder);
    if (told->read_gb_per_s > 0) {
        printf("memory        reads %.1f GB/s\n", told->read_gb_per_s);
    }
}

static void print_device(const spi_diagnosis *told) {
    const sp_device_info *device = &told->device;
    printf("\n%s:%s%s%s\n", device->name, *device->description ? " " : "", device->description,
           device->is_software ? " (software: not a GPU)" : "");
    if (told->error.status) {
        printf("  %s: %s\n", told->is_opened ? "failed" : "cannot be opened", told->error.message);
        return;
    }
    if (device->thread_count) {
        printf("  computes with           %s, %" PRIu32 " threads\n", device->isa, device->thread_count);
    }
    if (device->memory_bytes) {
        char memory[32];
        spi_words_bytes(device->memory_bytes, memory, sizeof memory);
        printf("  its own memory          %s\n", memory);
    }
    printf("  link                    %s\n", sp_link_kind_name(device->link));
    char matmul[32], link[32], shared[32], copied[32];
    spi_words_us(told->matmul_us, matmul, sizeof matmul);
    spi_words_us(told->link_us, link, sizeof link);
    spi_words_us(told->shared_us, shared, sizeof shared);
    spi_words_us(told->copied_us, copied, sizeof copied);
    printf("  product in the guest    %" PRIu32 " of %d elements wrong, %s for %d x %d x %d\n", told->wrong, ELEMENTS,
           matmul, SPI_DOCTOR_SIDE, SPI_DOCTOR_SIDE, SPI_DOCTOR_SIDE);
    printf("  16 MiB linked           RSS %+.2f MB, linked in %s, product in %s%s\n",
           (double)told->link_rss_bytes * 1e-6, link, shared, told->region_wrong ? ", WRONG" : "");
    printf("  16 MiB copied instead   RSS %+.2f MB, product in %s\n", (double)told->copy_rss_bytes * 1e-6, copied);
    printf("  copied explicitly       %" PRIu64 " bytes\n", told->copied_bytes);
}

static void print_trouble(const sp_device_trouble *trouble, cJSON *troubles) {
    if (!troubles) {
        printf("\n%s\n  cannot be used: %s\n", trouble->name, trouble->reason);
        return;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", trouble->name);
    spi_json_add_text(json, "reason", trouble->reason, strlen(trouble->reason));
    cJSON_AddItemToArray(troubles, json);
}

/* Hardware that seems to be there and is not in the list. */
static void tell_troubles(cJSON *json) {
    sp_device_trouble troubles[8];
    size_t count = sp_device_list_troubles(troubles, 8);
    cJSON *list = json ? cJSON_AddArrayToObject(json, "troubles") : NULL;
    for (size_t i = 0; i < count && i < 8; i++) {
        print_trouble(&troubles[i], list);
    }
}

static void print_row(const char *what, const char *here, const char *published) {
    printf("  %-30s  %-*s%s\n", what, *published ? 26 : 0, here, published);
}

/* For --full: the same as a proof in three links, with the published figures beside ours, and what a model adds. */
static void print_proof(const spi_diagnosis *told, const spi_restoring *restoring) {
    char linked[32], copying[32], right[32];
    snprintf(linked, sizeof linked, "%+.2f MB", (double)told->link_rss_bytes * 1e-6);
    snprintf(copying, sizeof copying, "%+.2f MB", (double)told->copy_rss_bytes * 1e-6);
    snprintf(right, sizeof right, "%" PRIu32 " of %d right", ELEMENTS - told->wrong, ELEMENTS);
    bool is_in_place = !told->copied_bytes && !told->region_wrong;
    print_row("proof", "here", "published (Apple M1)");
    print_row("  1 mapped memory is a buffer", is_in_place ? "yes, nothing copied" : "NO", "yes");
    print_row("    RSS for 16 MiB of it", linked, "+0.03 MB");
    print_row("    RSS with a copy", copying, "+16.78 MB");
    print_row("  2 the buffer is guest memory", told->same_bytes ? "yes, the same bytes" : "NO", "yes");
    print_row("  3 a guest computes in it", right, "16384 of 16384");
    if (!restoring) {
        print_row("  24 tokens restored", "not measured: give -m MODEL", "");
        return;
    }
    if (restoring->error.status) {
        print_row("  24 tokens restored", "FAILED:", restoring->error.message);
        return;
    }
    char computed[32], saved[32], restored[32], resumed[32], bytes[32], ratio[32], same[32], in_place[32], own[32];
    spi_words_us(restoring->computed_us, computed, sizeof computed);
    spi_words_us(restoring->saved_us, saved, sizeof saved);
    spi_words_us(restoring->restored_us, restored, sizeof restored);
    spi_words_us(restoring->resumed_us, resumed, sizeof resumed);
    snprintf(bytes, sizeof bytes, "%.2f MB", (double)restoring->file_bytes * 1e-6);
    snprintf(ratio, sizeof ratio, "%.2f times", restoring->computed_us / restoring->resumed_us);
    snprintf(same, sizeof same, "%" PRIu32 " of %" PRIu32, restoring->same, restoring->compared);
    print_row("  24 tokens, and the next", computed, "(Llama 3.2 1B)");
    print_row("    saved", saved, "1.1 ms");
    print_row("    in a file of", bytes, "1.58 MB");
    print_row("    restored", restored, "1.4 ms");
    print_row("    and the next", resumed, "");
    print_row("    faster than computing", ratio, "5.45 times");
    print_row("    same tokens afterwards", same, "");
    if (restoring->in_place_bytes + restoring->own_bytes) {
        spi_words_bytes(restoring->in_place_bytes, in_place, sizeof in_place);
        spi_words_bytes(restoring->own_bytes, own, sizeof own);
        printf("    weights in the mapped file    %s, %s copied\n", in_place, own);
    }
}

static void print_notes(void) {
    puts("\nRSS is what linking a region of 16 MiB and computing in it adds to the process, after everything was done\n"
         "once to warm up; below it, the same with a second buffer and copies. A published experiment on an Apple M1\n"
         "had +0.03 MB and +16.78 MB for these.");
}

static cJSON *device_json(const spi_diagnosis *told) {
    const sp_device_info *device = &told->device;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", device->name);
    spi_json_add_text(json, "description", device->description, strlen(device->description));
    cJSON_AddBoolToObject(json, "software", device->is_software);
    cJSON_AddStringToObject(json, "link", sp_link_kind_name(device->link));
    if (told->error.status) {
        spi_json_add_text(json, "error", told->error.message, strlen(told->error.message));
        return json;
    }
    cJSON_AddStringToObject(json, "isa", device->isa);
    cJSON_AddNumberToObject(json, "threads", device->thread_count);
    cJSON_AddNumberToObject(json, "memory_bytes", (double)device->memory_bytes);
    cJSON_AddNumberToObject(json, "matmul_elements", ELEMENTS);
    cJSON_AddNumberToObject(json, "matmul_wrong", told->wrong);
    cJSON_AddNumberToObject(json, "matmul_us", told->matmul_us);
    cJSON_AddNumberToObject(json, "region_bytes", (double)SPI_DOCTOR_REGION_BYTES);
    cJSON_AddNumberToObject(json, "region_wrong", told->region_wrong);
    cJSON_AddNumberToObject(json, "rss_delta_bytes", (double)told->link_rss_bytes);
    cJSON_AddNumberToObject(json, "link_us", told->link_us);
    cJSON_AddNumberToObject(json, "linked_product_us", told->shared_us);
    cJSON_AddNumberToObject(json, "copied_bytes", (double)told->copied_bytes);
    cJSON_AddNumberToObject(json, "copying_rss_delta_bytes", (double)told->copy_rss_bytes);
    cJSON_AddNumberToObject(json, "copying_product_us", told->copied_us);
    cJSON_AddBoolToObject(json, "same_bytes", told->same_bytes);
    return json;
}

static cJSON *restoring_json(const spi_restoring *told) {
    cJSON *json = cJSON_CreateObject();
    if (told->error.status) {
        spi_json_add_text(json, "error", told->error.message, strlen(told->error.message));
        return json;
    }
    cJSON_AddNumberToObject(json, "tokens", 24);
    cJSON_AddNumberToObject(json, "computed_us", told->computed_us);
    cJSON_AddNumberToObject(json, "saved_us", told->saved_us);
    cJSON_AddNumberToObject(json, "restored_us", told->restored_us);
    cJSON_AddNumberToObject(json, "resumed_us", told->resumed_us);
    cJSON_AddNumberToObject(json, "file_bytes", (double)told->file_bytes);
    cJSON_AddNumberToObject(json, "same_tokens", told->same);
    cJSON_AddNumberToObject(json, "compared_tokens", told->compared);
    cJSON_AddNumberToObject(json, "weights_in_place_bytes", (double)told->in_place_bytes);
    cJSON_AddNumberToObject(json, "weights_own_bytes", (double)told->own_bytes);
    return json;
}

static cJSON *machine_json(const machine *told) {
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "samepage", sp_version());
    cJSON_AddStringToObject(json, "wasmtime", sp_wasmtime_version());
    spi_json_add_text(json, "processor", told->processor, strlen(told->processor));
    cJSON_AddStringToObject(json, "instructions", told->features);
    cJSON_AddNumberToObject(json, "threads", told->threads);
    cJSON_AddStringToObject(json, "kernel", told->kernel);
    cJSON_AddStringToObject(json, "huge_pages", told->huge_pages);
    spi_json_add_text(json, "cache_folder", told->cache_folder, strlen(told->cache_folder));
    if (told->read_gb_per_s > 0) {
        cJSON_AddNumberToObject(json, "read_gb_per_s", told->read_gb_per_s);
    }
    return json;
}

/* ---- the command ---- */

/* Every device that there is, or the one that was named. The list is never NULL on success. */
static sp_status list(const spi_common *common, sp_device_info **infos, size_t *count, sp_error *error) {
    sp_status status = SP_OK;
    *infos = NULL;
    *count = 1;
    if (!common->device) {
        status = sp_device_list(NULL, 0, count, error);
    }
    if (status) {
        return status;
    }
    sp_device_info *made = *infos = spi_alloc(*count + 1, sizeof *made);
    if (!made) {
        return spi_fail(error, SP_NO_MEMORY, "not enough memory for a list of %zu devices", *count);
    }
    if (!common->device) {
        size_t capacity = *count;
        status = sp_device_list(made, capacity, count, error);
        *count = *count < capacity ? *count : capacity; /* one may have come since */
        return status;
    }
    snprintf(made->name, sizeof made->name, "%s", common->device);
    return SP_OK;
}

/* One device, printed or added to the list; true if all of it works. *is_working: it could be opened and used. */
static bool examine(const settings *set, const sp_device_info *info, cJSON *devices, bool *is_working) {
    spi_diagnosis told = {.device = *info};
    spi_restoring restoring = {0};
    spi_diagnose(&set->common, info->name, &told);
    *is_working = !told.error.status;
    bool restores = set->full && set->common.model && *is_working;
    if (restores) {
        spi_measure_restoring(&set->common, info->name, &restoring);
    }
    if (devices) {
        cJSON *json = device_json(&told);
        if (restores) {
            cJSON_AddItemToObject(json, "restoring", restoring_json(&restoring));
        }
        cJSON_AddItemToArray(devices, json);
    } else {
        print_device(&told);
        if (set->full && *is_working) {
            print_proof(&told, restores ? &restoring : NULL);
        }
    }
    return !told.wrong && !told.region_wrong && !(told.is_opened && told.error.status) &&
           (!*is_working || told.same_bytes) && !restoring.error.status && restoring.same == restoring.compared;
}

static int doctor(const settings *set) {
    sp_error error = {0};
    machine host = {0};
    sp_device_info *infos;
    size_t count, working = 0, wrong = 0;
    cJSON *json = NULL, *devices = NULL;
    get_machine(&host);
    if (list(&set->common, &infos, &count, &error)) {
        spi_free(infos);
        return spi_complain_error(&error);
    }
    if (set->full) {
        host.read_gb_per_s = spi_cpu_read_bandwidth(set->common.threads);
    }
    if (set->common.json) {
        json = machine_json(&host);
        devices = cJSON_AddArrayToObject(json, "devices");
    } else {
        fputs(set->full ? "---- samepage doctor --full: all of this belongs into a report ----\n" : "", stdout);
        print_machine(&host);
    }
    for (size_t i = 0; i < count; i++) {
        bool is_working;
        wrong += !examine(set, &infos[i], devices, &is_working);
        working += is_working;
    }
    spi_free(infos);
    if (!set->common.device) {
        tell_troubles(json);
    }
    int result = json ? spi_json_print(json) : SPI_EXIT_OK;
    if (!json) {
        if (working) {
            print_notes();
        }
        if (set->full) {
            printf("---- %s ----\n", wrong || !working ? "something is WRONG" : "everything is as it should be");
        }
    }
    return result || wrong || !working ? SPI_EXIT_FAILURE : SPI_EXIT_OK;
}

static int run(const spi_command *command, int argc, char **argv) {
    settings set = {0};
    const spi_option options[] = {
        {"full", 0, SPI_OPTION_FLAG, NULL, "a self-test to paste into a report: bandwidth, the proof, restoring",
         &set.full},
        {"model", 'm', SPI_OPTION_TEXT, "FILE", "with --full: the model of which 24 tokens are restored",
         &set.common.model},
        SPI_OPTIONS_DEVICE(set.common),
        SPI_OPTION_JSON(set.common),
        SPI_OPTIONS_END,
    };
    int result = spi_options_parse_all(command, options, argc, argv, NULL, "");
    if (result >= 0) {
        return result;
    }
    if (set.common.model && !set.full) {
        return spi_usage_error(command, "-m goes with --full");
    }
    return doctor(&set);
}

const spi_command spi_command_doctor = {
    .name = "doctor",
    .summary = "show this machine's devices and prove that they share a guest's memory",
    .usage = "[-d DEVICE] [--full [-m FILE]] [--json]",
    .text =
        "For each device: a guest fills two matrices in its own linear memory, the device multiplies them in place,\n"
        "the guest reads the product through its own pointer and compares every element. Then a region of 16 MiB\n"
        "is linked and computed in, beside the same by copying. Fails if a device computes wrongly.\n"
        "--full prints one block of text for a report: the same as a proof in three links, beside the figures of the\n"
        "published experiment, and with a model what 24 tokens cost to compute, to save and to restore.",
    .examples = "doctor\ndoctor --json\ndoctor -d vulkan\ndoctor --full -m models/samepage-demo-q8_0.gguf",
    .run = run,
};
