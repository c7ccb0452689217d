/* snapshot/info.c - looking inside of a snapshot. */
#include <stdio.h>
#include <string.h>

#include "snapshot/snapshot.h"

void sp_snapshot_get_info(const sp_snapshot *snapshot, sp_snapshot_info *info) {
    const spi_snapshot_header *header = snapshot->header;
    const spi_state *state = &snapshot->state;
    *info = (sp_snapshot_info){
        .version = header->version,
        .is_delta = header->flags & SPI_SNAPSHOT_DELTA,
        .byte_count = snapshot->bytes,
        .memory_bytes = state->memory_bytes,
        .page_bytes = snapshot->pages_bytes,
        .globals = state->global_count,
        .tables = state->table_count,
        .models = state->model_count,
        .sessions = snapshot->session_count,
        .has_module = spi_snapshot_find(snapshot, SPI_SECTION_MODULE, 0) != NULL,
    };
    memcpy(info->id, header->id, sizeof info->id);
    memcpy(info->parent, header->parent, sizeof info->parent);
    memcpy(info->module_hash, snapshot->module_hash, sizeof info->module_hash);
    snprintf(info->module_name, sizeof info->module_name, "%s", snapshot->module_name);
    snprintf(info->made_by, sizeof info->made_by, "%s", snapshot->made_by);
    for (uint32_t i = 0; i < state->slot_count; i++) {
        info->samplers += state->slots[i].kind == SPI_SLOT_SAMPLER;
    }
    for (uint32_t i = 0; i < snapshot->session_count; i++) {
        info->has_blocks = info->has_blocks || snapshot->sessions[i].blocks;
    }
    size_t extra;
    (void)sp_snapshot_extra(snapshot, &extra);
    info->extra_bytes = extra;
}

const char *sp_snapshot_get_model(const sp_snapshot *snapshot, uint32_t index, sp_fingerprint *fingerprint) {
    if (index >= snapshot->state.model_count) {
        return NULL;
    }
    if (fingerprint) {
        *fingerprint = snapshot->models[index].fingerprint;
    }
    return snapshot->state.models[index].name;
}

bool sp_snapshot_get_session(const sp_snapshot *snapshot, uint32_t index, sp_snapshot_session *session) {
    if (index >= snapshot->session_count) {
        return false;
    }
    const spi_saved_session *saved = &snapshot->sessions[index];
    const spi_state_slot *slot = &snapshot->state.slots[saved->slot];
    *session = (sp_snapshot_session){
        .handle = (int32_t)(slot->generation << 15 | (uint32_t)SPI_SLOT_SESSION << 12 | saved->slot),
        .model = snapshot->state.models[slot->model].name,
        .tokens = saved->tokens,
        .token_first = saved->token_first,
        .token_count = saved->token_count,
        .context_max = slot->context_max,
        .logits_rows = slot->logits_rows,
        .kv_type = slot->kv_type,
        .block_count = saved->block_count,
        .has_blocks = saved->blocks != NULL,
        .has_tail = saved->tail != NULL,
        .has_logits = saved->logits != NULL,
    };
    return true;
}

static const void *section_bytes(const sp_snapshot *snapshot, spi_section_kind kind, size_t *byte_count) {
    const spi_snapshot_section *section = spi_snapshot_find(snapshot, kind, 0);
    *byte_count = section ? (size_t)section->bytes : 0;
    return section ? snapshot->data + section->offset : NULL;
}

const void *sp_snapshot_module(const sp_snapshot *snapshot, size_t *byte_count) {
    return section_bytes(snapshot, SPI_SECTION_MODULE, byte_count);
}

const void *sp_snapshot_extra(const sp_snapshot *snapshot, size_t *byte_count) {
    return section_bytes(snapshot, SPI_SECTION_EXTRA, byte_count);
}
