/* device/metal/link.c - regions as buffers, in place.
 *
 * What holds for every backend was checked above (device/link.c), whole pages and access among it. A region that has
 * grown gets new buffers before the old ones go: buffers over the same bytes may live beside each other, so that a
 * growth which is refused leaves the link as it was.
 */
#include "base/error.h"
#include "base/memory.h"
#include "device/metal/metal.h"

sp_status spi_mt_link_region(void *context, sp_region *region, spi_link **out, sp_error *error) {
    spi_mt *mt = context;
    *out = NULL;
    spi_mt_link *link = spi_alloc(1, sizeof *link);
    if (!link) {
        return spi_fail(error, SP_NO_MEMORY, "metal: no memory to link a region");
    }
    link->base.region = region;
    link->base.kind = SP_LINK_SHARED;
    sp_status status =
        spi_mt_map_open(mt, sp_region_base(region), sp_region_committed_bytes(region), &link->map, error);
    if (status) {
        spi_free(link);
        return status;
    }
    *out = &link->base;
    return SP_OK;
}

sp_status spi_mt_link_extend(void *context, spi_link *base, sp_error *error) {
    spi_mt *mt = context;
    spi_mt_link *link = (spi_mt_link *)base;
    spi_mt_map longer;
    sp_status status =
        spi_mt_map_open(mt, sp_region_base(base->region), sp_region_committed_bytes(base->region), &longer, error);
    if (!status) {
        spi_mt_map_close(mt, &link->map);
        link->map = longer;
    }
    return status;
}

void spi_mt_link_remove(void *context, spi_link *base) {
    spi_mt_link *link = (spi_mt_link *)base;
    spi_mt_map_close(context, &link->map);
    spi_free(link);
}
