/* guest/state_facts.c - what those who save guests ask of guests and modules beside their state, and what they leave
 * there: see state.h. */
#include "base/memory.h"
#include "guest/guest.h"
#include "guest/imports.h"
#include "guest/state.h"

void spi_state_note_written(sp_guest *guest, uint64_t offset, uint64_t bytes) {
    if (bytes && !guest->is_written_all) {
        size_t before = guest->written.count;
        if (before >= 256 || !SPI_RESERVE(guest->written.items, before, guest->written.capacity)) {
            guest->is_written_all = true;
            return;
        }
        guest->written.items[guest->written.count++] = (spi_range){.offset = offset, .bytes = bytes};
    }
}

spi_ranges spi_state_take_written(sp_guest *guest, bool *all) {
    spi_ranges taken = guest->written;
    *all = guest->is_written_all;
    guest->written = (spi_ranges){0};
    guest->is_written_all = false;
    return taken;
}

bool spi_module_reads_files(const sp_module *module) {
    return module->reads_files;
}

uint64_t spi_module_data_end(const sp_module *module) {
    uint64_t all = module->memory_pages_min * SPI_WASM_PAGE_BYTES;
    uint64_t end = (module->rewrite.data_end < all ? module->rewrite.data_end + 4095 : all) / 4096 * 4096;
    return end < all ? end : all;
}

const sp_guest_model *spi_guest_models(const sp_guest *guest, uint32_t *count) {
    *count = guest->model_count;
    return guest->models;
}

const char *spi_module_name(const sp_module *module) {
    return module->name;
}

const void *spi_module_wasm(const sp_module *module, size_t *bytes) {
    *bytes = module->wasm_bytes;
    return module->wasm;
}

sp_module *spi_guest_module(const sp_guest *guest) {
    return guest->module;
}

spi_kept *spi_guest_kept(sp_guest *guest) {
    return &guest->kept;
}

void spi_guest_drop_kept(sp_guest *guest) {
    if (guest->kept.drop) {
        guest->kept.drop(guest->kept.item);
        guest->kept = (spi_kept){0};
    }
}

sp_session *spi_guest_session(sp_guest *guest, uint32_t slot) {
    const spi_host *host = guest->host;
    bool is_one = slot < host->slot_count && host->slots[slot].kind == SPI_HANDLE_SESSION;
    return is_one ? host->slots[slot].session : NULL;
}

bool spi_guest_next_session(sp_guest *guest, uint32_t *slot, sp_session **session) {
    const spi_host *host = guest->host;
    while (*slot < host->slot_count && host->slots[*slot].kind != SPI_HANDLE_SESSION) {
        ++*slot;
    }
    if (*slot >= host->slot_count) {
        return false;
    }
    *session = host->slots[(*slot)++].session;
    return true;
}

sp_status spi_guest_set_cache(sp_guest *guest, const spi_session_cache *cache, sp_error *error) {
    sp_status status = SP_OK;
    for (uint32_t i = 0; i < guest->host->slot_count && !status; i++) {
        if (guest->host->slots[i].kind == SPI_HANDLE_SESSION) {
            status = cache->join(cache->env, guest->host->slots[i].session, error);
        }
    }
    guest->cache = status ? guest->cache : cache;
    return status;
}
