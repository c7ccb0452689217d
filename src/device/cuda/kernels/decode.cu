/* device/cuda/kernels/decode.cu - a token in one launch: a cooperative kernel with one block on each multiprocessor.
 *
 * One warp of a block streams what the block will read of weights, keys and values, in the order in which they are
 * used, through a ring in shared memory (ring.cuh). It waits for nothing but room, so they flow on while the other
 * warps wait for each other or attend. Those go through the token's phases: products (token_product.cuh) and attention
 * (token_attention.cuh). Blocks never meet at a barrier: whoever reads a vector asks until all of its numbers are those
 * of the phase before (tagged.cuh). A launch may go on with the token that is the likeliest behind the first, and so
 * on.
 *
 * There is a kernel for each type of weights, one for each type beside Q6_K, which is what mixed files have, and one
 * for any mixture: a kernel with few types in it is small, and a small one is not kept waiting for its own
 * instructions.
 *
 * Needs bulk copies (compute capability 9.0); empty on older cards, for which the host does not ask for it.
 */
#include "device/cuda/kernels/token_attention.cuh"

#if __CUDA_ARCH__ >= 900
/* The pieces of a phase that every thread reads often; the rest stays in global memory. */
struct shared_state {
    ring_state ring;
    token_step step;
    spi_cu_phase phases[2];                              /* this one's and the next one's */
    spi_cu_phase streamed;                               /* the one whose weights are on their way */
    float2 turns[2][SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX]; /* this token's and the next one's */
    float squares[THREADS];
    likeliest best[WARPS];
    exchange sums;
};

/* The token's row of the embedding: each block puts it where the first phase looks for its input; they write the
 * same. */
template <int type> __device__ __forceinline__ void embed(const spi_cu_token &token, const token_step &step) {
    const spi_cu_matrix &m = token.embedding;
    const uint8_t *row = (const uint8_t *)m.data + (uint64_t)step.token * m.stride;
    uint32_t tag = step.tag_of(token.x_tag);
    for (uint32_t group = threadIdx.x; group * 32 < m.cols; group += THREADS) {
        float w[32];
        weights<type>::load32(row, m, group, w);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            publish4(token.x + (group * 8 + i) * 4,
                     make_float4(w[4 * i] * token.embedding_scale, w[4 * i + 1] * token.embedding_scale,
                                 w[4 * i + 2] * token.embedding_scale, w[4 * i + 3] * token.embedding_scale),
                     tag);
        }
    }
}

template <int first, int second>
__device__ __forceinline__ void embed_any(const spi_cu_token &token, const token_step &step) {
    if constexpr (first >= 0) {
        if (first == second || token.embedding.type == first) {
            embed<first>(token, step);
        } else {
            embed<second>(token, step);
        }
    } else {
        switch (token.embedding.type) {
#define EMBED(type)                                                                                                    \
    case type: embed<type>(token, step); break;
            SPI_CU_TYPES(EMBED)
#undef EMBED
        }
    }
}

/* A phase's description, on its way to shared memory while the one before is computed: by the last warp. */
__device__ __forceinline__ void ask_for_phase(const spi_cu_token &token, shared_state &shared, uint32_t index) {
    constexpr uint32_t words = sizeof(spi_cu_phase) / 16;
    static_assert(words <= 32, "one warp copies a phase");
    uint32_t i = threadIdx.x - (THREADS - 32);
    if (i < words && index < token.phase_count) {
        asm volatile(
            "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address_of((uint4 *)&shared.phases[index & 1] + i)),
            "l"((const uint4 *)(token.phases + index) + i)
            : "memory");
    }
}

__device__ __forceinline__ void wait_for_phase() {
    if (threadIdx.x >= THREADS - 32) {
        asm volatile("cp.async.wait_all;" ::: "memory");
    }
}

/* The likeliest token of a block, by one of its threads, where others find it. A function of its own, as is what the
 * last block does: within the kernel they cost its loops registers. */
__device__ __noinline__ void leave_best(const spi_cu_token &token, const shared_state &shared, uint32_t tag) {
    likeliest best = shared.best[0];
    for (uint32_t i = 1; i < WARPS; i++) {
        best.consider(shared.best[i].logit, shared.best[i].token);
    }
    uint64_t word = (uint64_t)__float_as_uint(best.logit) << 32 | best.token << 2 | tag;
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(token.best + blockIdx.x), "l"(word) : "memory");
}

__device__ __forceinline__ uint64_t ask_best(const uint64_t *from) {
    uint64_t word;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
    return word;
}

__device__ __forceinline__ likeliest best_of(uint64_t word) {
    return {__uint_as_float((uint32_t)(word >> 32)), (uint32_t)word >> 2};
}

/* By one warp of each block, behind a barrier of all: the last block tells the host that all is written, and which
 * token is the likeliest behind the last one, for which the others need not wait. */
__device__ __noinline__ void tell_host(const spi_cu_token &token, const token_step &step, bool picks) {
    uint32_t lane = threadIdx.x, before = 0;
    if (lane == 0) {
        __threadfence_system();
        before = atomicInc(token.finished, gridDim.x - 1);
    }
    if (__shfl_sync(0xffffffffu, before, 0) != gridDim.x - 1) {
        return;
    }
    __threadfence_system();
    if (picks) {
        likeliest best = {-INFINITY, 0};
        for (uint32_t i = lane; i < gridDim.x; i += 32) {
            likeliest other = best_of(ask_best(token.best + i));
            best.consider(other.logit, other.token);
        }
        best.over_warp();
        if (lane == 0) {
            token.picks[step.index] = (int32_t)best.token;
            __threadfence_system();
        }
    }
    if (lane == 0) {
        *(volatile uint32_t *)token.done = token.sequence;
    }
}

/* Kernels with two types choose; kernel -1 is for any. */
template <int first, int second>
__device__ __forceinline__ void any_product(const spi_cu_token &token, const token_step &step,
                                            const spi_cu_phase &phase, shared_state &shared, uint8_t *room,
                                            uint32_t mark_index) {
#define PRODUCT(type)                                                                                                  \
    product<type>(token, step, phase, shared.squares, room, shared.ring, room + token.vector_bytes, shared.sums,       \
                  shared.best, mark_index)
    if constexpr (first >= 0) {
        if (first == second || phase.type == first) {
            PRODUCT(first);
        } else {
            PRODUCT(second);
        }
    } else {
        switch (phase.type) {
#define CASE(type)                                                                                                     \
    case type: PRODUCT(type); break;
            CASE(SP_F16)
            CASE(SP_BF16)
            SPI_CU_QUANTISED(CASE)
#undef CASE
        }
    }
#undef PRODUCT
}

__device__ __forceinline__ uint32_t best_tag(const spi_cu_token &token, const token_step &step) {
    return (token.best_tag + step.index + 1) & 3;
}

/* The likeliest token of all blocks: each says what its own likeliest is, when all that it wrote can be seen. */
__device__ __forceinline__ uint32_t pick(const spi_cu_token &token, const token_step &step, shared_state &shared) {
    uint32_t warp = threadIdx.x / 32, tag = best_tag(token, step);
    __threadfence();
    all_sync();
    if (threadIdx.x == 0) {
        leave_best(token, shared, tag);
    }
    likeliest best = {-INFINITY, 0};
    if (threadIdx.x < gridDim.x) {
        uint64_t word;
        do {
            word = ask_best(token.best + threadIdx.x);
        } while ((word ^ tag) & 3);
        best = best_of(word);
    }
    __syncwarp(); /* see warp_misses() */
    __threadfence();
    best.over_warp();
    all_sync(); /* all have read what thread 0 reads above */
    if (threadIdx.x % 32 == 0) {
        shared.best[warp] = best;
    }
    all_sync();
    best = shared.best[0];
    for (uint32_t i = 1; i < WARPS; i++) {
        best.consider(shared.best[i].logit, shared.best[i].token);
    }
    return best.token;
}

/* Angles of the next token, on their way from the host's memory while this one is computed: not by the last warp, which
 * waits for other things. */
__device__ __forceinline__ void ask_for_turns(const spi_cu_token &token, const token_step &step, shared_state &shared) {
    for (uint32_t t = 0; t < SPI_CU_TURNS_MAX; t++) {
        uint32_t pairs = token.turn_pairs[t];
        for (uint32_t i = threadIdx.x; i < pairs && threadIdx.x < THREADS - 32; i += THREADS - 32) {
            const float *from = token.later_turns[t] + ((uint64_t)(step.index + 1) * pairs + i) * 2;
            asm volatile(
                "cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(address_of(&shared.turns[(step.index + 1) & 1][t][i])),
                "l"(from)
                : "memory");
        }
    }
}

/* All phases of a token. */
template <int first, int second, bool q8>
__device__ __forceinline__ void compute(const spi_cu_token &token, const token_step &step, shared_state &shared,
                                        uint8_t *room) {
    ask_for_phase(token, shared, 0);
    embed_any<first, second>(token, step);
    wait_for_phase();
    all_sync();
#pragma unroll 1
    for (uint32_t p = 0; p < token.phase_count; p++) {
        const spi_cu_phase &phase = shared.phases[p & 1];
        ask_for_phase(token, shared, p + 1);
        mark(token, 3 * p);
        mark_block(token, p, 0);
        if (phase.kind == SPI_CU_PHASE_PRODUCT) {
            any_product<first, second>(token, step, phase, shared, room, 3 * p + 1);
        } else {
            const float2 *turns = shared.turns[step.index & 1][phase.turn];
            const uint8_t *bytes = room + token.vector_bytes;
            const bool narrow = first >= 0 ? is_quantised(first) : phase.narrow;
            attend<q8>(token, step, phase, narrow, turns, shared.ring, bytes, room);
        }
        mark(token, 3 * p + 2);
        mark_block(token, p, 1);
        wait_for_phase();
        all_sync();
    }
}

/* Tokens, each the likeliest behind the one before, until there are enough or one ends it. */
template <int first, int second, bool q8>
__device__ __forceinline__ void go_on(const spi_cu_token &token, shared_state &shared, uint8_t *room) {
    const token_step &step = shared.step;
    for (;;) {
        if (!step.last) {
            ask_for_turns(token, step, shared);
        }
        compute<first, second, q8>(token, step, shared, room);
        if (!token.picks || step.last) {
            return;
        }
        uint32_t chosen = pick(token, step, shared);
        bool ends = false;
        for (uint32_t i = 0; i < token.stop_count; i++) {
            ends = ends || (uint32_t)token.stops[i] == chosen;
        }
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            token.picks[step.index] = (int32_t)chosen;
        }
        if (ends) {
            return;
        }
        asm volatile("cp.async.wait_all;" ::: "memory"); /* its angles */
        all_sync();                                      /* all have read the step */
        if (threadIdx.x == 0) {
            shared.step.next(token, chosen);
            shared_store(&shared.ring.begun, shared.step.index);
        }
        all_sync();
    }
}

/* Logits of a token that turned out to be the last: each block's own. */
__device__ __forceinline__ void hand_over(const spi_cu_token &token, const spi_cu_phase &head) {
    const share mine(head);
    for (uint32_t i = mine.first + threadIdx.x; i < mine.first + mine.count; i += THREADS) {
        ((float *)token.logits)[i] = __ldcg(token.row + i);
    }
}

template <int first, int second, bool q8> __device__ __forceinline__ void decode(const spi_cu_token &token) {
    extern __shared__ __align__(128) uint8_t memory[];
    __shared__ shared_state shared;
    if (threadIdx.x == 0) {
        ring_init(shared.ring, token.stage_count);
        shared.step = token_step(token);
    }
    __syncthreads();
    if (threadIdx.x / 32 == WARPS) {
        stream<q8>(token, shared.ring, shared.streamed, memory + token.vector_bytes);
        return;
    }
    for (uint32_t i = threadIdx.x; i < SPI_CU_TURNS_MAX * SPI_CU_PAIRS_MAX; i += THREADS) {
        (&shared.turns[0][0][0])[i] = ((const float2 *)token.turns)[i];
    }
    mark_time(token, 2);
    go_on<first, second, q8>(token, shared, memory);
    const bool picks = token.picks && shared.step.last;
    if (!shared.step.last) {
        if (threadIdx.x == 0) {
            shared_store(&shared.ring.ended, 1);
        }
        hand_over(token, shared.phases[(token.phase_count - 1) & 1]);
        all_sync();
    }
    if (picks && threadIdx.x == 0) {
        leave_best(token, shared, best_tag(token, shared.step));
    }
    mark(token, 3 * token.phase_count);
    mark_time(token, 3);
    if (threadIdx.x < 32) {
        tell_host(token, shared.step, picks);
    }
}
#endif

#if __CUDA_ARCH__ >= 900
#define BODY(first, second, q8) decode<first, second, q8>(token);
#else
#define BODY(first, second, q8)
#endif
#define DECODE_AS(name, first, second, q8)                                                                             \
    KERNEL __launch_bounds__(THREADS + 32, 1) decode_##name(const __grid_constant__ spi_cu_token token) {              \
        BODY(first, second, q8)                                                                                        \
    }
#define DECODE(name, first, second)    DECODE_AS(name, first, second, false)
#define DECODE_Q8(name, first, second) DECODE_AS(q8_##name, first, second, true)
SPI_CU_DECODERS(DECODE)
SPI_CU_Q8_DECODERS(DECODE_Q8)
