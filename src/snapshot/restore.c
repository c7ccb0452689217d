/* snapshot/restore.c - an image into a guest. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/crew.h"
#include "os/vm.h"
#include "region/region.h"
#include "snapshot/capture.h"

/* Shorter runs of pages are copied: a mapping costs about what copying so much does, and the kernel's list of mappings
 * is not endless. */
#define MAP_BYTES_MIN ((uint64_t)128 << 10)

static bool uses_model(const spi_state *state, uint32_t index) {
    for (uint32_t i = 0; i < state->slot_count; i++) {
        bool has_model = state->slots[i].kind == SPI_SLOT_MODEL || state->slots[i].kind == SPI_SLOT_SESSION;
        if (has_model && state->slots[i].model == index) {
            return true;
        }
    }
    return false;
}

static sp_status check_model(const spi_restoring *all, uint32_t index, const sp_model *model, sp_error *error) {
    const spi_saved_model *saved = &all->snapshot->models[index];
    const char *name = all->snapshot->state.models[index].name;
    sp_fingerprint own;
    sp_model_get_fingerprint(model, &own);
    if (memcmp(own.weights, saved->fingerprint.weights, sizeof own.weights) == 0) {
        if (spi_kv_format(model, SP_KV_F16) != saved->kv_formats[0]) {
            spi_tell(all->notice, all->notice_env, "%s: the snapshot's blocks are of another format: computed again",
                     name);
        }
        return SP_OK;
    }
    if (memcmp(own.family, saved->fingerprint.family, sizeof own.family) == 0) {
        spi_tell(all->notice, all->notice_env,
                 "%s: the model has the same vocabulary and other weights: its sessions are computed again", name);
        return SP_OK;
    }
    if (!all->options->recompute) {
        return spi_fail(error, SP_UNSUPPORTED,
                        "the model given as %.80s is another than the snapshot's: give that one, or ask for its tokens "
                        "to be computed again with this",
                        name);
    }
    spi_tell(all->notice, all->notice_env, "%s: the model is another: its sessions are computed again", name);
    return SP_OK;
}

/* The models by the names that the snapshot has, as far as handles need them. */
static sp_status find_models(spi_restoring *all, const sp_guest_options *options, spi_state *state, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < state->model_count && !status; i++) {
        sp_model *found = NULL;
        for (uint32_t k = 0; options && k < options->model_count && !found; k++) {
            found = strcmp(options->models[k].name, state->models[i].name) == 0 ? options->models[k].model : NULL;
        }
        state->models[i].model = found;
        if (uses_model(state, i)) {
            status = found ? check_model(all, i, found, error)
                           : spi_fail(error, SP_NOT_FOUND, "the snapshot needs a model under the name %.80s",
                                      state->models[i].name);
        }
    }
    return status;
}

/* The module's own data were written at places whose pages were zero when they were saved. */
static void clear_between(uint8_t *memory, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += SPI_SECTION_PAGE_ALIGN) {
        if (!spi_page_is_zero(memory + at)) {
            memset(memory + at, 0, SPI_SECTION_PAGE_ALIGN);
        }
    }
}

/* Files are laid out for pages of 4 KiB: where the system's are larger, what does not fit is copied. */
static bool can_map_run(const spi_page_run *run, uint64_t file_offset) {
    return run->bytes >= MAP_BYTES_MIN && (run->offset | run->bytes | file_offset) % spi_vm_page_bytes() == 0;
}

static sp_status map_pages(const sp_snapshot *snapshot, sp_region *region, sp_error *error) {
    spi_region_piece *pieces = spi_alloc(snapshot->run_count, sizeof *pieces);
    uint64_t at = snapshot->pages_offset;
    uint32_t count = 0;
    if (!pieces) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to restore a guest");
    }
    for (uint32_t i = 0; i < snapshot->run_count; i++) {
        const spi_page_run *run = &snapshot->runs[i];
        if (can_map_run(run, at)) {
            pieces[count++] = (spi_region_piece){
                .offset = run->offset, .bytes = run->bytes, .file = snapshot->file, .file_offset = at};
        }
        at += run->bytes;
    }
    sp_status status = count ? spi_region_remap(region, pieces, count, error) : SP_OK;
    spi_free(pieces);
    return status;
}

static sp_status fill_memory(const sp_snapshot *snapshot, sp_guest *guest, uint64_t own_bytes, sp_error *error) {
    sp_region *region = sp_guest_region(guest);
    sp_device *device = spi_guest_device(guest);
    uint8_t *memory = sp_region_base(region);
    bool can_map = snapshot->file >= 0 && (!device || spi_device_shares_files(device));
    sp_status status = can_map ? map_pages(snapshot, region, error) : SP_OK;
    const uint8_t *from = snapshot->pages;
    uint64_t end = 0, at = snapshot->pages_offset;
    for (uint32_t i = 0; i < snapshot->run_count && !status; i++) {
        const spi_page_run *run = &snapshot->runs[i];
        clear_between(memory, end, run->offset < own_bytes ? run->offset : own_bytes);
        if (!can_map || !can_map_run(run, at)) {
            spi_crew_copy(memory + run->offset, from, run->bytes);
        }
        from += run->bytes;
        at += run->bytes;
        end = run->offset + run->bytes;
    }
    clear_between(memory, end, own_bytes);
    if (!status && device) {
        status = spi_device_host_wrote(device, region, 0, sp_region_size_bytes(region), error);
    }
    return status;
}

static sp_status restore_sessions(spi_restoring *all, const spi_state *state, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < all->snapshot->session_count && !status; i++) {
        const spi_saved_session *saved = &all->snapshot->sessions[i];
        const spi_state_slot *slot = &state->slots[saved->slot];
        status = spi_session_restore(all, saved, slot, &all->snapshot->models[slot->model], error);
    }
    return status;
}

static sp_status check_module(const sp_snapshot *snapshot, const sp_module *module, sp_error *error) {
    uint8_t hash[SP_MODULE_HASH_BYTES];
    sp_module_get_hash(module, hash);
    if (memcmp(hash, snapshot->module_hash, sizeof hash) != 0) {
        return spi_fail(error, SP_INVALID, "the snapshot is of another module than %s: of %s as it was then",
                        spi_module_name(module), snapshot->module_name);
    }
    if (snapshot->header->flags & SPI_SNAPSHOT_DELTA) {
        return spi_fail(error, SP_INVALID, "the snapshot is a delta: apply it to what it was made on");
    }
    return SP_OK;
}

/* A copy whose models and sessions are this restore's. */
static sp_status copy_state(const sp_snapshot *snapshot, spi_state *state, sp_error *error) {
    *state = snapshot->state;
    state->models = spi_alloc(state->model_count, sizeof *state->models);
    state->slots = spi_alloc(state->slot_count, sizeof *state->slots);
    if (!state->models || !state->slots) {
        return spi_fail(error, SP_NO_MEMORY, "no memory to restore a guest");
    }
    if (state->model_count) {
        memcpy(state->models, snapshot->state.models, state->model_count * sizeof *state->models);
    }
    if (state->slot_count) {
        memcpy(state->slots, snapshot->state.slots, state->slot_count * sizeof *state->slots);
    }
    return SP_OK;
}

/* Full blocks are put in place or cleared by spi_session_restore. */
static void find_unwritten(spi_state *state) {
    for (uint32_t i = 0; i < state->slot_count; i++) {
        spi_state_slot *slot = &state->slots[i];
        const sp_model *model = slot->kind == SPI_SLOT_SESSION ? state->models[slot->model].model : NULL;
        uint64_t bytes =
            model ? slot->token_count / SPI_BLOCK_TOKENS * spi_model_kv(model, slot->kv_type)->block_bytes : 0;
        slot->unwritten_bytes = bytes < slot->bytes ? bytes : slot->bytes;
    }
}

static sp_status make_guest(spi_restoring *all, sp_module *module, const sp_guest_options *options, spi_state *state,
                            sp_guest **guest, sp_error *error) {
    sp_status status = find_models(all, options, state, error);
    find_unwritten(state);
    status = status ? status : spi_state_create_guest(module, options, state, guest, error);
    status = status ? status : fill_memory(all->snapshot, *guest, spi_module_data_end(module), error);
    if (!status && all->options->store) {
        status = sp_store_attach_guest(all->options->store, *guest, error);
    }
    return status ? status : spi_state_open_handles(*guest, state, error);
}

static sp_status restore_from(const sp_snapshot *snapshot, sp_guest *live, sp_module *module,
                              const sp_guest_options *guest_options, const sp_restore_options *restore_options,
                              sp_guest **guest, sp_error *error) {
    static const sp_restore_options defaults;
    sp_error local = {0};
    spi_state state = {0};
    error = error ? error : &local;
    *guest = NULL;
    spi_restoring all = {.snapshot = snapshot, .live = live, .options = restore_options ? restore_options : &defaults};
    all.notice = all.options->notice;
    all.notice_env = all.options->notice_env;
    if (!all.notice && all.options->store) {
        spi_store_get_notice(all.options->store, &all.notice, &all.notice_env);
    }
    all.report.logits_are_restored = true;
    int64_t begin_ns = spi_clock_ns();
    sp_status status = check_module(snapshot, module, error);
    status = status ? status : copy_state(snapshot, &state, error);
    status = status ? status : make_guest(&all, module, guest_options, &state, guest, error);
    all.report.guest_ns = (uint64_t)(spi_clock_ns() - begin_ns);
    status = status ? status : restore_sessions(&all, &state, error);
    spi_free(state.models);
    spi_free(state.slots);
    if (status) {
        sp_guest_destroy(*guest);
        *guest = NULL;
        return status;
    }
    if (all.options->report) {
        *all.options->report = all.report;
    }
    return SP_OK;
}

sp_status sp_guest_restore(const sp_snapshot *snapshot, sp_module *module, const sp_guest_options *guest_options,
                           const sp_restore_options *restore_options, sp_guest **guest, sp_error *error) {
    return restore_from(snapshot, NULL, module, guest_options, restore_options, guest, error);
}

static void drop_image(void *image) {
    sp_snapshot_close(image);
}

/* A guest that is forked once is copied where that is cheaper. One that is forked again without having run has an image
 * made, which this fork and those that follow share. */
static sp_status image_for_fork(sp_guest *guest, sp_store *store, sp_snapshot **image, bool *is_bare, sp_error *error) {
    const sp_capture_options capture = {.store = store, .without_module = true};
    spi_kept *kept = spi_guest_kept(guest);
    *is_bare = !kept->drop;
    sp_status status = spi_capture_private(guest, &capture, *is_bare, *is_bare ? NULL : kept->item, image, error);
    if (status || *image == kept->item) {
        return status;
    }
    spi_guest_drop_kept(guest);
    *kept = (spi_kept){.item = *is_bare ? NULL : *image, .drop = drop_image};
    return SP_OK;
}

/* The device and the models of the guest itself, whatever the options say. */
sp_status sp_guest_fork(sp_guest *guest, sp_store *store, const sp_guest_options *guest_options, sp_guest **fork,
                        sp_error *error) {
    sp_guest_options options = {0};
    if (guest_options) {
        options = *guest_options;
    }
    const sp_restore_options restore = {.store = store};
    sp_snapshot *image;
    bool is_bare;
    *fork = NULL;
    sp_status status = image_for_fork(guest, store, &image, &is_bare, error);
    if (!status) {
        options.device = spi_guest_device(guest);
        options.models = spi_guest_models(guest, &options.model_count);
        options.kv_type = options.kv_type ? options.kv_type : spi_guest_kv_type(guest);
        status = restore_from(image, is_bare ? guest : NULL, spi_guest_module(guest), &options, &restore, fork, error);
    }
    if (is_bare) {
        sp_snapshot_close(image);
    }
    return status;
}
