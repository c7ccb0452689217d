/* fuzz/fuzz_manifest.c - any bytes as an exported actor's manifest: read or refused; what was read is written and read
 * again to the same counts. */
#include <stdlib.h>
#include <string.h>

#include "actor/manifest.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spi_manifest read, again;
    void *bytes;
    size_t count;
    if (spi_manifest_read(data, size, &read, NULL)) {
        return 0;
    }
    if (spi_manifest_write(&read, &bytes, &count, NULL)) {
        abort();
    }
    if (spi_manifest_read(bytes, count, &again, NULL) || again.mail_count != read.mail_count ||
        again.timer_count != read.timer_count || again.record.model_count != read.record.model_count ||
        again.record.kv_type != read.record.kv_type || strcmp(again.record.name, read.record.name) != 0) {
        abort();
    }
    spi_free(bytes);
    spi_manifest_free(&again);
    spi_manifest_free(&read);
    return 0;
}
