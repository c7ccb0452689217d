/* device/cuda/decode_tags.c - the places of vectors that a token's blocks hand to each other, and the tags by which a
 * block knows that a number is there (kernels/tagged.cuh). May include: what decode_parts.h may. */
#include "device/cuda/decode_parts.h"

/* Vectors that blocks hand to each other: the phases' places in the program's scratch, and where they are for a
 * token. */
typedef struct tagged_buffers {
    struct {
        spi_cu_pointer place;
        uint64_t at; /* bytes in the decoder's memory */
        uint32_t uses;
    } items[SPI_CU_TAGGED_MAX];
    uint32_t count;
    uint64_t bytes;
    bool too_many;
} tagged_buffers;

/* The buffer of a place; a new one of so many numbers where there is none yet. */
static uint32_t tagged(tagged_buffers *buffers, spi_cu_pointer place, uint64_t numbers) {
    uint32_t i = 0;
    while (i < buffers->count && buffers->items[i].place != place) {
        i++;
    }
    if (i == SPI_CU_TAGGED_MAX) {
        buffers->too_many = true;
        return 0;
    }
    if (i == buffers->count) {
        buffers->items[buffers->count++].place = place;
        buffers->items[i].at = buffers->bytes;
        buffers->bytes += spi_cu_decode_round_up(numbers * sizeof(float));
    }
    return i;
}

static uint32_t read_tag(tagged_buffers *buffers, spi_cu_address *place, uint64_t numbers) {
    uint32_t i = tagged(buffers, *place, numbers);
    *place = buffers->items[i].at;
    return 4 * i + buffers->items[i].uses % 4;
}

static uint32_t write_tag(tagged_buffers *buffers, spi_cu_address *place, uint64_t numbers) {
    uint32_t i = tagged(buffers, *place, numbers);
    *place = buffers->items[i].at;
    return 4 * i + ++buffers->items[i].uses % 4;
}

static uint64_t packed_uses(const tagged_buffers *buffers) {
    uint64_t packed = 0;
    for (uint32_t i = 0; i < buffers->count; i++) {
        packed |= (uint64_t)(buffers->items[i].uses % 4) << (2 * i);
    }
    return packed;
}

#define ATTENDED 1 /* no places, but names for buffers that the phases do not know */
#define EMBEDDED 2
#define NARROWED 3

static void tag_attention(tagged_buffers *buffers, spi_cu_phase *phase, const spi_kv_shape *kv) {
    spi_cu_address attended = ATTENDED;
    uint64_t columns = (uint64_t)kv->kv_heads * kv->head_dim, outs = (uint64_t)phase->heads * kv->head_dim;
    phase->src_tag = read_tag(buffers, &phase->src, outs);
    phase->k_tag = read_tag(buffers, &phase->k, columns);
    phase->v_tag = read_tag(buffers, &phase->v, columns);
    phase->run_tag = write_tag(buffers, &attended, 0);
    phase->out_tag = write_tag(buffers, &phase->out, outs);
}

static void tag_product(tagged_buffers *buffers, spi_cu_phase *phase, bool adds_to_embedding) {
    phase->src_tag = read_tag(buffers, &phase->src, phase->cols);
    if (phase->output == SPI_CU_OUTPUT_ADD) {
        phase->residual = adds_to_embedding ? EMBEDDED : phase->parts[0].dst;
        read_tag(buffers, &phase->residual, phase->parts[0].rows);
    }
    uint32_t outputs = phase->output == SPI_CU_OUTPUT_LOGITS ? 0
                       : phase->output == SPI_CU_OUTPUT_GATE ? 1
                                                             : phase->part_count;
    if (phase->narrow) { /* the sums themselves are their threads' own */
        phase->parts[0].dst = buffers->items[tagged(buffers, phase->parts[0].dst, phase->parts[0].rows)].at;
        phase->left_narrow = NARROWED;
        phase->parts[0].tag = write_tag(buffers, &phase->left_narrow, phase->parts[0].rows);
        return;
    }
    for (uint32_t i = 0; i < outputs; i++) {
        phase->parts[i].tag = write_tag(buffers, &phase->parts[i].dst, phase->parts[i].rows);
    }
}

static void tag_phases(const spi_program *program, spi_cu_decode *decode, tagged_buffers *buffers) {
    const spi_kv_shape *kv = &program->tape->kv;
    spi_cu_phases *phases = &decode->phases;
    spi_cu_address attended = ATTENDED, embedded = EMBEDDED;
    bool summed = false;
    tagged(buffers, attended, (uint64_t)SPI_CU_SPLITS_MAX * phases->heads_max * (kv->head_dim + 4));
    decode->token.x_tag = write_tag(buffers, &embedded, phases->embedding.cols);
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        if (i == phases->hidden_count) {
            decode->uses[0] = packed_uses(buffers);
        }
        if (phase->kind == SPI_CU_PHASE_ATTENTION) {
            tag_attention(buffers, phase, kv);
            continue;
        }
        if (decode->token.joined && i && phases->items[i - 1].kind == SPI_CU_PHASE_ATTENTION) {
            phase->joins = 1;
            phase->joins_tag = phases->items[i - 1].run_tag;
        }
        phase->src = !summed && phase->src == phases->x ? EMBEDDED : phase->src;
        phase->src = phase->narrow_in && phase->input == SPI_CU_INPUT_NORM ? NARROWED : phase->src;
        bool sums = phase->output == SPI_CU_OUTPUT_ADD && phase->parts[0].dst == phases->x;
        tag_product(buffers, phase, sums && !summed);
        summed = summed || sums;
    }
    decode->uses[1] = packed_uses(buffers);
}

bool spi_cu_decode_tag(const spi_program *program, spi_cu_decode *decode, spi_cu_vectors *vectors) {
    tagged_buffers buffers = {.count = 0};
    tag_phases(program, decode, &buffers);
    *vectors = (spi_cu_vectors){
        .bytes = buffers.bytes, .attended_at = buffers.items[0].at, .x_at = buffers.items[1].at}; /* in their order */
    return !buffers.too_many;
}

void spi_cu_decode_move_vectors(spi_cu_phases *phases, spi_cu_pointer base) {
    for (uint32_t i = 0; i < phases->count; i++) {
        spi_cu_phase *phase = &phases->items[i];
        phase->src += base, phase->residual += base, phase->k += base, phase->v += base, phase->out += base;
        phase->left_narrow += base;
        for (uint32_t p = 0; p < phase->part_count; p++) {
            phase->parts[p].dst += base;
        }
    }
}
