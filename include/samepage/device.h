/* samepage/device.h - one way to compute, and how it reaches memory.
 *
 * A device opens, says honestly what it can do, links regions and runs a model's tapes on them. It never copies a
 * region's bytes unless its link kind says so.
 *
 * Threads: a device may be used by one thread at a time; different devices by different threads at once. The cpu device
 * has worker threads of its own, on which the calling thread works too.
 */
#ifndef SAMEPAGE_DEVICE_H
#define SAMEPAGE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/region.h"
#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_device sp_device;

/* What a device's access to a region is, from best to worst. A link says the truth. */
typedef enum sp_link_kind {
    SP_LINK_SHARED = 0, /* the same bytes in the same memory: CPUs, integrated GPUs, software drivers */
    SP_LINK_MAPPED,     /* the same bytes, reached over a bus */
    SP_LINK_MIRRORED,   /* a device copy, and every write goes through to the region as it is made */
    SP_LINK_COPIED,     /* bytes are moved explicitly, and counted */
} sp_link_kind;

SP_EXPORT const char *sp_link_kind_name(sp_link_kind kind); /* "shared", "mapped", "mirrored", "copied" */

typedef struct sp_device_info {
    char name[32];         /* what users type: "cpu", "vulkan", "vulkan:1" */
    char description[160]; /* the hardware and driver in words: "llvmpipe (LLVM 15.0.6, 256 bits), Mesa 22.3.6" */
    bool is_software;      /* a GPU interface that computes on the CPU; never picked by "auto" */
    sp_link_kind link;     /* what a link to a region will be */
    size_t memory_bytes;   /* of its own; 0 where it uses the host's */
    uint32_t thread_count; /* cpu: threads that compute, the caller's one included; 0 elsewhere */
    char isa[16];          /* cpu: "avx2", "avx512", ... as chosen; empty elsewhere */
    char passed_over[256]; /* of a device that "auto" opened: why better hardware was not; empty: there is none */
} sp_device_info;

typedef struct sp_device_options {
    uint32_t thread_count; /* cpu: 0 means what the machine and its limits allow */
    const char *isa;       /* cpu: NULL means the best there is; "reference" forces the plain C of every op */

    /* A device that pins memory keeps that of guests that have ended for the next ones, since making and pinning it
     * takes longer than what a guest is started or restored for: at most so many bytes, and as many of the device's
     * own. 0: 4 GiB, but at most a sixteenth of the machine's memory and of the device's own; UINT64_MAX: none. It is
     * zeros when the next guest sees it. */
    uint64_t spare_bytes_max;
} sp_device_options;

/* Lists what can be opened here, at most capacity entries; *count is how many there are. What has no driver, or one
 * that fails or is too old, is not listed: sp_device_list_troubles says why. */
SP_EXPORT sp_status sp_device_list(sp_device_info *infos, size_t capacity, size_t *count, sp_error *error);

/* Hardware that seems to be there and cannot be used. */
typedef struct sp_device_trouble {
    char name[32];                       /* what users would type: "cuda" */
    char reason[SP_ERROR_MESSAGE_BYTES]; /* and what to do */
} sp_device_trouble;

/* At most capacity of them; returns how many there are. A machine without the hardware or any driver has none. */
SP_EXPORT size_t sp_device_list_troubles(sp_device_trouble *troubles, size_t capacity);

/* Opens by name: "cpu", "vulkan", "vulkan:N", "cuda", "cuda:N", "metal", or "auto" for the best hardware there is that
 * can be opened. options may be NULL. SP_NO_DEVICE says why it is not there and names the devices that are. */
SP_EXPORT sp_status sp_device_open(const char *name, const sp_device_options *options, sp_device **device,
                                   sp_error *error);

/* All links, models and sessions on it must be gone. NULL is allowed. */
SP_EXPORT void sp_device_close(sp_device *device);

SP_EXPORT void sp_device_get_info(const sp_device *device, sp_device_info *info);

/* Counters since open, or since it was opened anew; for doctor, bench and tests. */
typedef struct sp_device_counters {
    uint64_t runs;         /* tapes and matmuls submitted */
    uint64_t copied_bytes; /* explicitly copied between a region and the device: 0 unless a link is `copied`, or
                              `mirrored` and the host wrote blocks */
    uint64_t linked_bytes; /* of regions, at present; without the spare ones */
    uint64_t spare_bytes;  /* of ended guests' regions, kept for the next: see sp_device_options */
    uint64_t spares_taken; /* guests that got such a region */
    uint64_t revived;      /* times that the device was lost and was opened anew, with all that was on it */
    /* metal: of loaded weights, what is computed on where the file is mapped, and what was copied into buffers of the
     * device's own because it lies in no file or not on whole pages of it; both 0 elsewhere */
    uint64_t weights_in_place_bytes, weights_own_bytes;
} sp_device_counters;
SP_EXPORT void sp_device_get_counters(const sp_device *device, sp_device_counters *counters);

/* Gives all spare memory back to the system, as happens by itself where memory for a guest is not to be had. */
SP_EXPORT void sp_device_trim(sp_device *device);

/* Links a region so that the device may compute on it; linking again only counts. Unlink as often as link. Linking
 * checks what real drivers check (alignment, backing, overlap with a live link, access) on every device, so that what
 * passes on a forgiving one passes on all: SP_LINK_REFUSED says which rule was broken. */
SP_EXPORT sp_status sp_device_link(sp_device *device, sp_region *region, sp_error *error);
SP_EXPORT void sp_device_unlink(sp_device *device, sp_region *region);

/* c[m][n] = a[m][k] * b[k][n], row-major, in place in a linked region; sums in f32. a, b and c are byte offsets from
 * the region's base, 16-byte aligned, inside its size; c must not overlap a or b. type is that of a and b (SP_F32 or
 * SP_F16); c is always f32. Returns when the product can be read through the region. SP_BAD_POINTER, SP_INVALID. */
typedef struct sp_matmul {
    uint32_t m, n, k;
    int32_t type; /* sp_dtype */
    uint64_t a_offset, b_offset, c_offset;
} sp_matmul;
SP_EXPORT sp_status sp_device_matmul(sp_device *device, sp_region *region, const sp_matmul *args, sp_error *error);

#ifdef __cplusplus
}
#endif
#endif
