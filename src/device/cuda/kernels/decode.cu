/* device/cuda/kernels/decode.cu - a token in one launch: a cooperative kernel with one block on each multiprocessor.
 *
 * One warp of a block streams the block's share of all weights, in the order in which they are used, through a ring in
 * shared memory (ring.cuh). It waits for nothing but room, so weights flow on while the other warps stand at a barrier or
 * attend. Those go through the token's phases: products (token_product.cuh) and attention (token_attention.cuh), with a
 * barrier over the whole card between them.
 *
 * There is a kernel for each type of weights, one for each type beside Q6_K, which is what mixed files have, and one for
 * any mixture: a kernel with few types in it is small, and a small one is not kept waiting for its own instructions.
 *
 * Needs bulk copies (compute capability 9.0); empty on older cards, for which the host does not ask for it.
 */
#include "device/cuda/kernels/token_attention.cuh"

/* The pieces of a phase that every thread reads often; the rest stays in global memory. */
struct shared_state {
    ring_state ring;
    spi_cu_phase phases[2]; /* this one's and the next one's */
    spi_cu_phase streamed;  /* the one whose weights are on their way */
    float2 turns[SPI_CU_TURNS_MAX][SPI_CU_PAIRS_MAX];
    float squares[WARPS];
    uint32_t flag;
};

#if __CUDA_ARCH__ >= 900
/* All blocks have arrived, and what they wrote is seen. */
__device__ __forceinline__ void grid_sync(const spi_cu_token &token, uint32_t &target) {
    all_sync();
    target += gridDim.x;
    if (threadIdx.x == 0) {
        uint32_t value;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(token.barrier) : "memory");
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(token.barrier) : "memory");
        } while ((int32_t)(value - target) < 0);
    }
    all_sync();
}

/* The token's row of the embedding: each block puts it where the first phase looks for its input; they write the same. */
template <int type> __device__ __forceinline__ void embed(const spi_cu_token &token) {
    const spi_cu_matrix &m = token.embedding;
    const uint8_t *row = (const uint8_t *)m.data + (uint64_t)token.token * m.stride;
    for (uint32_t group = threadIdx.x; group * 32 < m.cols; group += THREADS) {
        float w[32];
        weights<type>::load32(row, m, group, w);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            ((float4 *)token.x)[group * 8 + i] =
                make_float4(w[4 * i] * token.embedding_scale, w[4 * i + 1] * token.embedding_scale,
                            w[4 * i + 2] * token.embedding_scale, w[4 * i + 3] * token.embedding_scale);
        }
    }
}

template <int first, int second> __device__ __forceinline__ void embed_any(const spi_cu_token &token) {
    if constexpr (first >= 0) {
        if (first == second || token.embedding.type == first) {
            embed<first>(token);
        } else {
            embed<second>(token);
        }
    } else {
        switch (token.embedding.type) {
#define EMBED(type)                                                                                                    \
    case type: embed<type>(token); break;
            SPI_CU_TYPES(EMBED)
#undef EMBED
        }
    }
}

/* The next phase's description is asked for at a phase's start and put down at its end, by the last warp. */
struct phase_fetch {
    static constexpr uint32_t words = sizeof(spi_cu_phase) / 16;
    uint4 word;

    __device__ __forceinline__ void ask(const spi_cu_token &token, uint32_t index) {
        static_assert(words <= 32, "one warp copies a phase");
        uint32_t i = threadIdx.x - (THREADS - 32);
        if (i < words && index < token.phase_count) {
            word = __ldg((const uint4 *)(token.phases + index) + i);
        }
    }

    __device__ __forceinline__ void put(shared_state &shared, uint32_t index) {
        uint32_t i = threadIdx.x - (THREADS - 32);
        if (i < words) {
            ((uint4 *)&shared.phases[index & 1])[i] = word;
        }
    }
};

/* By one thread of each block, behind a barrier of its warps: the last one tells the host that all is written. */
__device__ __forceinline__ void tell_host(const spi_cu_token &token) {
    __threadfence_system();
    if (atomicInc(token.finished, gridDim.x - 1) == gridDim.x - 1) {
        __threadfence_system();
        *(volatile uint32_t *)token.done = token.sequence;
    }
}

/* Kernels with two types choose; kernel -1 is for any. */
template <int first, int second>
__device__ __forceinline__ void any_product(const spi_cu_token &token, const spi_cu_phase &phase, shared_state &shared,
                                            uint8_t *room, ring_reader &ring, uint32_t mark_index) {
#define PRODUCT(type) product<type>(token, phase, shared.squares, room, ring, mark_index)
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

template <int first, int second> __device__ __forceinline__ void decode(const spi_cu_token &token) {
    extern __shared__ __align__(128) uint8_t memory[];
    __shared__ shared_state shared;
    if (threadIdx.x == 0) {
        ring_init(shared.ring);
    }
    __syncthreads();
    if (threadIdx.x / 32 == WARPS) {
        stream(token, shared.ring, shared.streamed, memory + token.vector_bytes);
        return;
    }
    ring_reader ring = {&shared.ring, memory + token.vector_bytes, 0};
    phase_fetch fetch;
    fetch.ask(token, 0);
    fetch.put(shared, 0);
    for (uint32_t i = threadIdx.x; i < SPI_CU_TURNS_MAX * SPI_CU_PAIRS_MAX; i += THREADS) {
        (&shared.turns[0][0])[i] = ((const float2 *)token.turns)[i];
    }
    uint32_t target = token.barrier_start;
    mark_time(token, 2);
    embed_any<first, second>(token);
    __threadfence();
    all_sync();
    for (uint32_t p = 0; p < token.phase_count; p++) {
        const spi_cu_phase &phase = shared.phases[p & 1];
        fetch.ask(token, p + 1);
        mark(token, 3 * p);
        mark_block(token, p, 0);
        if (phase.kind == SPI_CU_PHASE_PRODUCT) {
            any_product<first, second>(token, phase, shared, memory, ring, 3 * p + 1);
        } else if (token.kv.head_dim == 64) {
            attend<64>(token, phase, shared.turns[phase.turn], shared.flag, memory);
        } else if (token.kv.head_dim == 128) {
            attend<128>(token, phase, shared.turns[phase.turn], shared.flag, memory);
        } else {
            attend<256>(token, phase, shared.turns[phase.turn], shared.flag, memory);
        }
        mark(token, 3 * p + 2);
        mark_block(token, p, 1);
        fetch.put(shared, p + 1);
        if (phase.barrier && p + 1 < token.phase_count) {
            grid_sync(token, target);
        } else {
            all_sync();
        }
    }
    mark(token, 3 * token.phase_count);
    mark_time(token, 3);
    if (threadIdx.x == 0) {
        tell_host(token);
    }
}
#endif

#if __CUDA_ARCH__ >= 900
#define BODY(first, second) decode<first, second>(token);
#else
#define BODY(first, second)
#endif
#define DECODE(name, first, second)                                                                                    \
    KERNEL __launch_bounds__(THREADS + 32, 1) decode_##name(const __grid_constant__ spi_cu_token token) {              \
        BODY(first, second)                                                                                            \
    }
SPI_CU_DECODERS(DECODE)
