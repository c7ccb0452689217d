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
    uint32_t wrong;  /* elements, the most of all runs */
    bool same_bytes; /* the host read the product where the guest says that it is, and it was what the guest reads */
    double matmul_us;

    /* A region of 16 MiB, all of it written before: linked and computed on in place, and the same by copying. */
    int64_t link_rss_bytes, copy_rss_bytes; /* what resident memory grew by */
    double link_us, shared_us, copied_us;   /* linking; a product in place; copying in, product, copying out */
    uint32_t region_wrong;                  /* elements of the product's diagonal */
    uint64_t copied_bytes;                  /* that the device copied in all of this, as it counts them */
} spi_diagnosis;

/* What 24 tokens cost to compute and to restore, with a model. Times are medians. */
typedef struct spi_restoring {
    sp_error error;
    double computed_us; /* a new guest: opening, 24 tokens, the first that follows */
    double saved_us;    /* to a file, not synced */
    double restored_us; /* from the file: reading and checking it, a new guest */
    double resumed_us;  /* and the first token that follows */
    uint64_t file_bytes;
    uint32_t same, compared;            /* tokens that followed, beside those of the guest that was saved */
    uint64_t in_place_bytes, own_bytes; /* of weights, as the device counts them; 0: it does not */
} spi_restoring;

/* common->model is set. */
void spi_measure_restoring(const spi_common *common, const char *name, spi_restoring *told);

/* Fills all of it; what could not be done is told in its error. name is as in sp_device_open. */
void spi_diagnose(const spi_common *common, const char *name, spi_diagnosis *told);

#endif
