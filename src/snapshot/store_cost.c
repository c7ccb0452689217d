/* snapshot/store_cost.c - whether blocks are worth reading: what computing tokens and reading bytes has cost in this
 * process.
 *
 * May include: what store.h may.
 */
#include "snapshot/store.h"

static spi_cost *cost_of(sp_store *store, const sp_session *session) {
    for (int i = 0; i < SPI_COST_COUNT; i++) {
        if (store->costs[i].device == session->device && store->costs[i].model == session->model) {
            return &store->costs[i];
        }
    }
    spi_cost *fresh = &store->costs[store->cost_next++ % SPI_COST_COUNT];
    *fresh = (spi_cost){.device = session->device, .model = session->model};
    return fresh;
}

static double blend(double before, double now) {
    return before > 0 ? before * 0.75 + now * 0.25 : now;
}

static int size_of(uint32_t token_count) {
    int size = 0;
    while (size + 1 < SPI_COST_SIZES && token_count >= 32u << size) {
        size++;
    }
    return size;
}

void spi_store_learn_compute(sp_store *store, const sp_session *session, uint32_t token_count, int64_t ns) {
    double *known = &cost_of(store, session)->ns_per_token[size_of(token_count)];
    *known = blend(*known, (double)ns / token_count);
}

void spi_store_learn_read(sp_store *store, bool is_copied, uint64_t bytes, int64_t ns) {
    double *known = is_copied ? &store->copy_ns_per_byte : &store->read_ns_per_byte;
    *known = blend(*known, (double)ns / (double)bytes);
}

/* Where runs of this size were not seen: no more for each token than in a shorter run, and no more in all than a longer
 * one. */
double spi_store_guess_compute(sp_store *store, const sp_session *session, uint32_t token_count) {
    const double *known = cost_of(store, session)->ns_per_token;
    int own = size_of(token_count), shorter = own, longer = own;
    while (shorter >= 0 && known[shorter] <= 0) {
        shorter--;
    }
    while (longer < SPI_COST_SIZES && known[longer] <= 0) {
        longer++;
    }
    double by_shorter = shorter >= 0 ? known[shorter] * token_count : 0;
    double by_longer = longer < SPI_COST_SIZES && longer > own ? known[longer] * (double)(16u << longer) : 0;
    return by_longer > 0 && (by_shorter <= 0 || by_longer < by_shorter) ? by_longer : by_shorter;
}

/* A run of blocks is computed again if that is known to be faster: on a device whose prefill outruns the disk, or
 * outruns copying. What lies verified in memory is mapped for nothing. */
bool spi_store_should_compute(sp_store *store, const sp_session *session, uint32_t run, uint32_t unread) {
    double bytes = (double)spi_kv_block_bytes_of(session);
    double compute_ns = spi_store_guess_compute(store, session, run * SPI_BLOCK_TOKENS);
    double read_ns = store->read_ns_per_byte * bytes * unread;
    if (!spi_session_can_map(session) && store->copy_ns_per_byte > 0) {
        double copy_ns = store->copy_ns_per_byte * bytes * run;
        read_ns = copy_ns > read_ns ? copy_ns : read_ns;
    }
    if (compute_ns <= 0 || read_ns <= compute_ns) {
        return false;
    }
    spi_store_note(store, "%u blocks are computed again (about %.1f ms), which is faster than reading them (%.1f ms)",
                   run, compute_ns / 1e6, read_ns / 1e6);
    return true;
}
