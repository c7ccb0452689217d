/* fuzz/fuzz_snapshot.c - reading snapshots. Checksums are made right before a file is read, so that what is behind them
 * is reached, too; the first byte of the input says whether. What opens is looked at in every way that needs no
 * guest. */
#include <string.h>

#include "base/memory.h"
#include "snapshot/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void reseal(uint8_t *bytes, size_t size) {
    spi_snapshot_header header;
    if (size < sizeof header) {
        return;
    }
    memcpy(&header, bytes, sizeof header);
    if (header.section_count > (size - sizeof header) / sizeof(spi_snapshot_section)) {
        return;
    }
    header.file_bytes = size;
    for (uint32_t i = 0; i < header.section_count; i++) {
        spi_snapshot_section section;
        uint8_t *place = bytes + sizeof header + i * sizeof section;
        memcpy(&section, place, sizeof section);
        if (section.offset <= size && section.bytes <= size - section.offset) {
            section.hash = spi_hash_bytes(bytes + section.offset, section.bytes, 0);
            memcpy(place, &section, sizeof section);
        }
    }
    header.hash =
        spi_snapshot_header_hash(&header, bytes + sizeof header, header.section_count * sizeof(spi_snapshot_section));
    memcpy(bytes, &header, sizeof header);
}

static void look(const sp_snapshot *snapshot) {
    sp_snapshot_info info;
    sp_snapshot_session session;
    sp_fingerprint fingerprint;
    size_t count;
    bool same;
    uint64_t sum = 0;
    sp_snapshot_get_info(snapshot, &info);
    for (uint32_t i = 0; sp_snapshot_get_model(snapshot, i, &fingerprint); i++) {
        sum += fingerprint.weights[0];
    }
    for (uint32_t i = 0; sp_snapshot_get_session(snapshot, i, &session); i++) {
        for (uint32_t k = 0; k < session.token_count; k++) {
            sum += (uint32_t)session.tokens[k];
        }
    }
    (void)sp_snapshot_module(snapshot, &count);
    (void)sp_snapshot_extra(snapshot, &count);
    (void)sp_snapshot_diff(snapshot, snapshot, NULL, NULL, &same, NULL);
    sp_snapshot *result;
    if (sp_snapshot_apply(snapshot, snapshot, &result, NULL) == SP_OK) {
        sp_snapshot_close(result);
    }
    volatile uint64_t kept = sum;
    (void)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sp_snapshot *snapshot;
    if (size < 2) {
        return 0;
    }
    uint8_t *bytes = spi_alloc(size - 1, 1);
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1) {
        reseal(bytes, size - 1);
    }
    if (sp_snapshot_open_bytes(bytes, size - 1, "input", &snapshot, NULL) == SP_OK) {
        look(snapshot);
        sp_snapshot_close(snapshot);
    }
    spi_free(bytes);
    return 0;
}
