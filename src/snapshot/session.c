/* snapshot/session.c - a saved session into one that is empty: its tokens, then its blocks from wherever they are had
 * fastest, then its last rows of logits. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "os/clock.h"
#include "os/crew.h"
#include "os/vm.h"
#include "snapshot/snapshot.h"

void spi_tell(sp_notice notice, void *env, const char *format, ...) {
    char text[256];
    if (notice) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        notice(env, text);
    }
}

/* The rows of a block that is not full, which lies zeroed in the session and like this somewhere else. */
static void copy_rows(sp_session *session, uint32_t block, uint32_t rows, const uint8_t *from) {
    spi_tail tail = {.session = session, .block = block, .rows = rows};
    uint8_t *to = spi_session_block(session, block);
    spi_part part;
    for (uint32_t i = 0; (part = spi_kv_tail_part(&tail, i)).from; i += 2) {
        size_t at = (size_t)((const uint8_t *)part.from - to);
        memcpy(to + at, from + at, part.bytes);
    }
}

/* Whether bytes of the snapshot can be mapped to a place of the session, whose start that is given from. Whole pages
 * are, so that what is behind the bytes is the session's to spoil, too. */
static bool can_place_map(const spi_restoring *all, const sp_session *session, uint64_t offset, uint64_t file_offset,
                          uint64_t bytes) {
    uint64_t page = spi_vm_page_bytes(), whole = (bytes + page - 1) / page * page;
    return all->snapshot->file >= 0 && spi_session_can_map(session) && offset % page == 0 && file_offset % page == 0 &&
           offset + whole <= session->layout.total_bytes;
}

/* Bytes of the snapshot at a place of the session: mapped out of its file, together with others, or copied at once. */
static sp_status place(spi_restoring *all, sp_session *session, uint64_t offset, const void *from, uint64_t file_offset,
                       uint64_t bytes, bool *is_mapped, sp_error *error) {
    const sp_snapshot *snapshot = all->snapshot;
    uint64_t page = spi_vm_page_bytes(), whole = (bytes + page - 1) / page * page;
    *is_mapped = can_place_map(all, session, offset, file_offset, bytes);
    session->is_foreign = session->is_foreign || (!snapshot->is_own && all->options->foreign);
    if (*is_mapped) {
        all->piece_bytes[all->piece_count] = bytes;
        all->pieces[all->piece_count++] =
            (spi_region_piece){.offset = offset, .bytes = whole, .file = snapshot->file, .file_offset = file_offset};
        return SP_OK;
    }
    spi_crew_copy(sp_region_base(session->region) + session->offset + offset, from, bytes);
    return spi_session_host_wrote(session, offset, bytes, error);
}

static sp_status map_placed(spi_restoring *all, sp_session *session, sp_error *error) {
    uint32_t count = all->piece_count;
    all->piece_count = 0;
    sp_status status = count ? spi_session_map_all(session, all->pieces, count, error) : SP_OK;
    for (uint32_t i = 0; i < count && !status; i++) {
        status = spi_session_host_wrote(session, all->pieces[i].offset - session->offset, all->piece_bytes[i], error);
    }
    return status;
}

/* The first full blocks lie in the snapshot. */
static sp_status place_inside(spi_restoring *all, const spi_saved_session *saved, sp_session *session, uint32_t full,
                              sp_error *error) {
    bool is_mapped;
    sp_status status = place(all, session, session->layout.kv_offset, saved->blocks, saved->blocks_offset,
                             full * spi_kv_block_bytes_of(session), &is_mapped, error);
    *(is_mapped ? &all->report.mapped_tokens : &all->report.copied_tokens) += full * SPI_BLOCK_TOKENS;
    return status;
}

/* As many full blocks as there are; *found is in tokens. */
static sp_status place_blocks(spi_restoring *all, const spi_saved_session *saved, sp_session *session, bool is_usable,
                              uint32_t *found, sp_error *error) {
    uint32_t full = session->token_count / SPI_BLOCK_TOKENS;
    *found = 0;
    if (!full) {
        return SP_OK;
    }
    uint64_t inside = saved->blocks && is_usable ? saved->blocks_bytes / spi_kv_block_bytes_of(session) : 0;
    sp_status status = SP_OK;
    if (inside) {
        inside = inside < full ? inside : full;
        *found = (uint32_t)inside * SPI_BLOCK_TOKENS;
        status = place_inside(all, saved, session, (uint32_t)inside, error);
    }
    if (status || !session->cache || inside == full) {
        return status;
    }
    uint32_t count = session->token_count, before = *found;
    session->token_count = before;
    status = session->cache->find(session->cache->env, session, full * SPI_BLOCK_TOKENS, found, error);
    session->token_count = count;
    *(spi_session_can_map(session) ? &all->report.mapped_tokens : &all->report.copied_tokens) += *found - before;
    return status;
}

static sp_status place_tail(spi_restoring *all, const spi_saved_session *saved, sp_session *session, sp_error *error) {
    uint32_t rows = session->token_count % SPI_BLOCK_TOKENS, block = session->token_count / SPI_BLOCK_TOKENS;
    uint64_t bytes = spi_kv_block_bytes_of(session), offset = session->layout.kv_offset + block * bytes;
    bool is_mapped = can_place_map(all, session, offset, saved->tail_offset, bytes);
    *(is_mapped ? &all->report.mapped_tokens : &all->report.copied_tokens) += rows;
    if (is_mapped) {
        return place(all, session, offset, saved->tail, saved->tail_offset, bytes, &is_mapped, error);
    }
    session->is_foreign = session->is_foreign || (!all->snapshot->is_own && all->options->foreign);
    copy_rows(session, block, rows, saved->tail);
    return spi_session_host_wrote(session, offset, bytes, error);
}

static sp_status place_logits(spi_restoring *all, const spi_saved_session *saved, sp_session *session, uint32_t rows,
                              bool *is_there, sp_error *error) {
    uint64_t bytes = (uint64_t)rows * session->vocab * sizeof(float);
    bool is_mapped;
    *is_there = rows && saved->logits && saved->logits_bytes == bytes && rows <= session->logits_rows_max;
    if (!*is_there) {
        return SP_OK;
    }
    session->logits_rows = rows;
    return place(all, session, session->layout.logits_offset, saved->logits, saved->logits_offset, bytes, &is_mapped,
                 error);
}

/* Between two guests of one process on one device: a copy into fresh pages costs a third of what pages of a file do. */
static sp_status copy_live(spi_restoring *all, const spi_saved_session *saved, sp_session *session, uint32_t rows,
                           uint32_t *found, bool *has_logits, sp_error *error) {
    const sp_session *from = spi_guest_session(all->live, saved->slot);
    uint32_t tail = session->token_count % SPI_BLOCK_TOKENS, block = session->token_count / SPI_BLOCK_TOKENS;
    sp_status status = SP_OK;
    if (tail) {
        uint64_t bytes = spi_kv_block_bytes_of(session);
        uint8_t *to = spi_session_block(session, block);
        spi_vm_populate(to, bytes, bytes % SP_REGION_ALIGN_BYTES == 0);
        copy_rows(session, block, tail, spi_session_block(from, block));
        status = spi_session_host_wrote(session, session->layout.kv_offset + block * bytes, bytes, error);
        all->report.copied_tokens += tail;
        *found += tail;
    }
    if (rows && !status) {
        uint64_t bytes = (uint64_t)rows * session->vocab * sizeof(float);
        uint8_t *to = sp_region_base(session->region) + session->offset + session->layout.logits_offset;
        spi_vm_populate(to, bytes / SPI_SECTION_PAGE_ALIGN * SPI_SECTION_PAGE_ALIGN, false);
        memcpy(to, sp_session_logits(from, 0), bytes);
        session->logits_rows = rows;
        *has_logits = true;
        status = spi_session_host_wrote(session, session->layout.logits_offset, bytes, error);
    }
    return status;
}

/* Computes what no block had, and the last token again if it is only its logits that are missing. */
static sp_status compute(spi_restoring *all, sp_session *session, uint32_t count, uint32_t have, bool wants_logits,
                         sp_error *error) {
    if (have == count && !wants_logits) {
        return SP_OK;
    }
    uint32_t from = have == count ? count - 1 : have;
    int64_t begin_ns = spi_clock_ns();
    session->token_count = from;
    session->logits_rows = 0;
    sp_status status = sp_session_append(session, session->tokens + from, count - from,
                                         wants_logits ? SP_LOGITS_LAST : SP_LOGITS_NONE, error);
    all->report.compute_ns += (uint64_t)(spi_clock_ns() - begin_ns);
    all->report.computed_tokens += count - from;
    if (count - from > SPI_BLOCK_TOKENS) {
        spi_tell(all->notice, all->notice_env, "%u of %u tokens were computed again, in %.0f ms", count - from, count,
                 (double)(spi_clock_ns() - begin_ns) / 1e6);
    }
    return status;
}

/* Full blocks that were not found may hold what an earlier user of the memory left. */
static sp_status clear_unfound(sp_session *session, const spi_state_slot *slot, uint32_t found, sp_error *error) {
    uint64_t first = found / SPI_BLOCK_TOKENS * spi_kv_block_bytes_of(session), end = slot->unwritten_bytes;
    if (first >= end) {
        return SP_OK;
    }
    spi_crew_zero(spi_session_block(session, 0) + first, end - first);
    return spi_session_host_wrote(session, session->layout.kv_offset + first, end - first, error);
}

sp_status spi_session_restore(spi_restoring *all, const spi_saved_session *saved, const spi_state_slot *slot,
                              const spi_saved_model *model, sp_error *error) {
    sp_session *session = slot->session;
    uint32_t count = slot->token_count, rows = slot->logits_rows, found = 0;
    sp_fingerprint own;
    sp_model_get_fingerprint(session->model, &own);
    bool is_same = memcmp(own.weights, model->fingerprint.weights, sizeof own.weights) == 0;
    bool is_usable = is_same && spi_kv_format_of(session) == spi_kv_saved_format(model, session->kv->type);
    all->report.sessions++;
    sp_status status = spi_session_put(session, saved->tokens, count, 0, error);
    if (status || !count) {
        return status == SP_INVALID
                   ? spi_fail(error, SP_UNSUPPORTED, "the other model has not all of the tokens that a session holds")
                   : status;
    }
    session->is_foreign = saved->is_foreign;
    int64_t begin_ns = spi_clock_ns();
    status = place_blocks(all, saved, session, is_usable, &found, error);
    status = status ? status : clear_unfound(session, slot, found, error);
    uint32_t tail = count % SPI_BLOCK_TOKENS;
    bool has_tail = is_usable && tail && saved->tail && saved->tail_bytes == spi_kv_block_bytes_of(session);
    if (!status && found == count - tail && has_tail) {
        status = place_tail(all, saved, session, error);
        found = count;
    }
    bool has_logits = false;
    if (!status && found == count && is_same) {
        status = place_logits(all, saved, session, rows, &has_logits, error);
    }
    status = status ? status : map_placed(all, session, error);
    if (!status && all->live && found == count - tail) {
        status = copy_live(all, saved, session, rows, &found, &has_logits, error);
    }
    bool is_behind = found < count || (rows && !has_logits);
    if (!status && is_usable && found >= count - tail && is_behind && session->cache && session->cache->find_tail) {
        bool has_rows;
        status = session->cache->find_tail(session->cache->env, session, rows, &has_rows, &has_logits, error);
        all->report.copied_tokens += has_rows ? count - found : 0;
        found = has_rows ? count : found;
    }
    all->report.blocks_ns += (uint64_t)(spi_clock_ns() - begin_ns);
    all->report.logits_are_restored = all->report.logits_are_restored && (has_logits || !rows);
    status = status ? status : compute(all, session, count, found, rows && !has_logits, error);
    if (!status) {
        spi_session_ahead(session, 0, (count + SPI_BLOCK_TOKENS - 1) / SPI_BLOCK_TOKENS);
    }
    if (!status && rows > 1 && !has_logits) {
        spi_tell(all->notice, all->notice_env, "only the last of a session's %u rows of logits is there", rows);
    }
    return status;
}
