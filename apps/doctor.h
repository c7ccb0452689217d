/* apps/doctor.h - the proof that samepage doctor gives for a device. May include: everything to the left of apps. */
#ifndef SPI_APPS_DOCTOR_H
#define SPI_APPS_DOCTOR_H

#include "apps/common.h"

#define SPI_DOCTOR_SIDE         128 /* of the guest's matrices: apps/guests/doctor.c */
#define SPI_DOCTOR_REGION_BYTES ((size_t)16 << 20)

typedef struct spi_diagnosis {
    sp_device_info device;
    bool is_opened;
    sp_error error; /* why there is nothing below, if its status is not SP_OK */

    /* A guest's product in the guest's own memory. */
    uint32_t wrong; /* elements, the most of all runs */
    double matmul_us;

    /* A region of 16 MiB, all of it written before: linked and computed on in place, and the same by copying. */
    int64_t link_rss_bytes, copy_rss_bytes; /* what resident memory grew by */
    double link_us, shared_us, copied_us;   /* linking; a product in place; copying in, product, copying out */
    uint32_t region_wrong;                  /* elements of the product's diagonal */
    uint64_t copied_bytes;                  /* that the device copied in all of this, as it counts them */
} spi_diagnosis;

/* Fills all of it; what could not be done is told in its error. name is as in sp_device_open. */
void spi_diagnose(const spi_common *common, const char *name, spi_diagnosis *told);

#endif
