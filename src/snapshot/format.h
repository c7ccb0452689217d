/* snapshot/format.h - how a snapshot lies in a file: docs/snapshot-format.md in C. Little-endian, no holes.
 *
 *     header | table of sections | sections, each at a multiple of its alignment, zeros between them
 *
 * May include: base.
 */
#ifndef SPI_SNAPSHOT_FORMAT_H
#define SPI_SNAPSHOT_FORMAT_H

#include <stdint.h>

#include "base/hash.h"

#define SPI_SNAPSHOT_MAGIC   "\211SPS\r\n\032\n" /* as PNG's: tells text conversions and cut eighth bits */
#define SPI_SNAPSHOT_VERSION 2u

#define SPI_SNAPSHOT_DELTA 1u /* flags */

#define SPI_SECTION_COUNT_MAX   32768u
#define SPI_SECTION_SMALL_ALIGN 16u
#define SPI_SECTION_PAGE_ALIGN  4096u

typedef enum spi_section_kind {
    SPI_SECTION_STATE = 1,   /* identity, globals, tables, ranges, handles: encode_state.c */
    SPI_SECTION_PAGE_INDEX,  /* {u64 offset, u64 bytes} of runs of the guest's memory, ascending */
    SPI_SECTION_PAGES,       /* the runs' bytes, one behind the other; page-aligned unless in a delta */
    SPI_SECTION_TOKENS,      /* i32 each; index: the handle's slot, here and below */
    SPI_SECTION_BLOCK_NAMES, /* {32 bytes name} of each full block */
    SPI_SECTION_BLOCKS,      /* the blocks' bytes, page-aligned, all full blocks in order */
    SPI_SECTION_TAIL,        /* the block that is not full, zeros where it has no rows yet, page-aligned */
    SPI_SECTION_LOGITS,      /* f32 [rows][vocab], page-aligned */
    SPI_SECTION_MODULE,      /* the module's WebAssembly */
    SPI_SECTION_EXTRA,       /* the caller's */
    SPI_SECTION_KIND_END
} spi_section_kind;

/* Those that can be mapped: in a whole snapshot they begin at a page, and so does what comes behind them. */
#define SPI_SECTION_IS_MAPPED(kind)                                                                                    \
    ((kind) == SPI_SECTION_PAGES || (kind) == SPI_SECTION_BLOCKS || (kind) == SPI_SECTION_TAIL ||                      \
     (kind) == SPI_SECTION_LOGITS)

/* Those whose contents make the state, and so its id; the others can be computed from them. */
#define SPI_SECTION_IS_STATE(kind)                                                                                     \
    ((kind) == SPI_SECTION_STATE || (kind) == SPI_SECTION_PAGE_INDEX || (kind) == SPI_SECTION_PAGES ||                 \
     (kind) == SPI_SECTION_TOKENS || (kind) == SPI_SECTION_EXTRA)

typedef struct spi_snapshot_header {
    char magic[8];
    uint32_t version, header_bytes; /* 128: newer versions may have longer ones */
    uint64_t file_bytes;
    uint32_t section_count, flags;
    uint8_t id[16], parent[16];
    uint64_t reserved[6]; /* 0 */
    spi_hash hash;        /* of the header before it and the table behind it */
} spi_snapshot_header;
_Static_assert(sizeof(spi_snapshot_header) == 128, "the header has no holes");

typedef struct spi_snapshot_section {
    uint32_t kind, index;
    uint64_t offset, bytes; /* in the file */
    uint64_t reserved;      /* 0 */
    spi_hash hash;          /* XXH3-128 of its bytes */
} spi_snapshot_section;
_Static_assert(sizeof(spi_snapshot_section) == 48, "the table has no holes");

typedef struct spi_page_run {
    uint64_t offset, bytes; /* of the guest's memory; multiples of 4096 */
} spi_page_run;

#endif
