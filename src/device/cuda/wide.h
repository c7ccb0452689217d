/* device/cuda/wide.h - what wide.c makes for runs of several rows and wide_run.c goes by. May include: cuda.h. */
#ifndef SPI_DEVICE_CUDA_WIDE_H
#define SPI_DEVICE_CUDA_WIDE_H

#include "device/cuda/cuda.h"

#define SPI_CU_WIDE_HEADS_THREADS 256u /* of kernels/flash.cu, few.cu and wide_rows.cu */
#define SPI_CU_FLASH_QUERIES      128u /* of a block: kernels/flash.cu */
#define SPI_CU_WIDE_TILE_COUNT    4u

typedef struct spi_cu_stored_map { /* a spi_cu_map without its alignment */
    unsigned char bytes[sizeof(spi_cu_map)];
} spi_cu_stored_map;

typedef struct spi_cu_wide_maps {                   /* of a phase of products */
    spi_cu_stored_map x[2][SPI_CU_WIDE_TILE_COUNT]; /* its input in packed[0] or [1], for tiles of each size */
    spi_cu_stored_map weights[SPI_CU_PARTS_MAX][SPI_CU_PLANES];
} spi_cu_wide_maps;

/* When the launches of the next run were at their points, for measuring: the first block and the last. */
#define SPI_CU_CLOCKS_MAX 256u
typedef struct spi_cu_clocks {
    spi_cu_buffer memory; /* the card's `times` */
    uint32_t count;       /* launches so far */
    const char *names[SPI_CU_CLOCKS_MAX];
    unsigned long long times[SPI_CU_CLOCKS_MAX][SPI_CU_MARKS][2];
} spi_cu_clocks;

struct spi_cu_wide_plan {
    spi_cu_phases phases;
    spi_cu_wide_maps *maps;  /* for each phase */
    spi_cu_buffer packed[2]; /* products' inputs as 16-bit numbers; the first is the program's */
    spi_cu_buffer queries;
    spi_cu_buffer squares;  /* two arrays of rows' records (spi_cu_squares), used in turns */
    uint32_t squares_pitch; /* f32 numbers of a record */
    spi_cu_buffer best;     /* the likeliest token of each tile of logits, spi_cu_best [SPI_CU_PICKS_MAX][best_tiles] */
    uint32_t best_tiles;    /* 0: logits are several products */
    spi_cu_clocks *clocks;  /* NULL: not wanted; whoever wants them owns them */
};

typedef struct spi_cu_slab {
    uint32_t plane_count, bytes;
    uint32_t pitch[SPI_CU_PLANES], step[SPI_CU_PLANES]; /* as spi_cu_wide has them */
} spi_cu_slab;

/* How a block's shared memory is divided. */
typedef struct spi_cu_wide_room {
    uint32_t slots, row_slots, received_at; /* as spi_cu_wide has them */
    uint32_t bytes;
} spi_cu_wide_room;

typedef struct spi_cu_heads_kernels {
    spi_cu_kernel place, flash;
    spi_cu_kernel few, many, start; /* few.cu, for blocks of eight and of four warps, and for prompts */
    uint32_t flash_bytes;           /* of shared memory */
} spi_cu_heads_kernels;

extern const uint32_t spi_cu_wide_tile_rows[SPI_CU_WIDE_TILE_COUNT];

spi_cu_kernel spi_cu_wide_kernel(uint32_t type, size_t tile);
uint32_t spi_cu_wide_form(uint32_t type); /* of the 16-bit numbers that weights of the type meet */
spi_cu_slab spi_cu_wide_slab(uint32_t type);
/* Of blocks of which so many share a tile's columns; or that are to run beside each other on a multiprocessor. */
spi_cu_wide_room spi_cu_wide_room_for(uint32_t type, size_t tile, uint32_t columns, uint32_t split, bool beside);
spi_cu_heads_kernels spi_cu_wide_heads_kernels(const spi_kv_shape *kv);

/* The product that reads what phase `index` leaves at `address` as 16-bit numbers. NULL: others read it as well, or
 * there is none. */
const spi_cu_phase *spi_cu_wide_reader(const spi_cu_phases *phases, uint32_t index, spi_cu_pointer address);

#endif
