/* guest/imports_abi.h - the structs and functions behind the imports;
 * made by tools/generate_imports.py from sdk/imports.def: change that and run it.
 *
 * Pointers have been checked before these functions are called; what they read from linear memory and then
 * trust, they copy first. May include: what guest/host.h may. */
// clang-format off
#ifndef SPI_GUEST_IMPORTS_ABI_H
#define SPI_GUEST_IMPORTS_ABI_H

#include "guest/host.h"
#include "guest/imports_memory.h"

typedef struct spi_abi_counters {
    uint64_t host_calls; /* Imports called. */
    uint64_t host_ns; /* Nanoseconds spent in them, computing excluded. */
    uint64_t compute_ns; /* From asking for computing to having it. */
    uint64_t prompt_tokens; /* Tokens appended two or more at a time. */
    uint64_t prompt_ns; /* Time that they took. */
    uint64_t generated_tokens; /* Tokens appended one at a time. */
    uint64_t generated_ns; /* Time that they took. */
    uint64_t slices; /* Times that the guest was preempted. */
    uint64_t run_ns; /* Of compute_ns, what the device itself took; the rest is the way there and back. */
} spi_abi_counters;
_Static_assert(sizeof(spi_abi_counters) == 72, "the structs have no holes");

typedef struct spi_abi_model_info {
    char architecture[32]; /* As the file has it: "llama". */
    char name[96]; /* The model's name for people. */
    char type[16]; /* The number format that most of its bytes have: "Q8_0". */
    uint64_t parameter_count; /* Numbers in all weights. */
    uint64_t file_bytes; /* Size of the file. */
    uint64_t weight_bytes; /* Bytes of weights that each generated token reads. */
    uint32_t layers; /* Transformer layers. */
    uint32_t embedding; /* Width of the residual stream. */
    uint32_t feed_forward; /* Width inside of the feed-forward part. */
    uint32_t heads; /* Attention heads. */
    uint32_t kv_heads; /* Heads of keys and values. */
    uint32_t head_dim; /* Width of one head. */
    uint32_t vocab; /* Tokens in the vocabulary; the length of a row of logits. */
    uint32_t context_max; /* Tokens that the model was made for. */
    uint32_t block_tokens; /* Tokens in a KV block. */
    uint32_t reserved; /* 0. */
    uint64_t block_bytes; /* Bytes of one KV block, all layers. */
} spi_abi_model_info;
_Static_assert(sizeof(spi_abi_model_info) == 216, "the structs have no holes");

typedef struct spi_abi_session_info {
    uint64_t kv; /* Address of the first KV block. */
    uint64_t kv_bytes; /* Bytes of all blocks. */
    uint64_t block_bytes; /* Bytes of one block. */
    uint64_t logits; /* Address of the first row of logits, f32[vocab] each. */
    uint32_t block_tokens; /* Tokens in a block. */
    uint32_t context_max; /* Tokens that the session can hold. */
    uint32_t logits_rows_max; /* Rows of logits that there is room for. */
    uint32_t logits_rows; /* Rows that the latest append has filled. */
    uint32_t vocab; /* Logits in a row. */
    uint32_t length; /* Tokens at present. */
    uint32_t kv_type; /* What keys and values are kept in: 1 F16, 2 Q8_0. */
    uint32_t reserved; /* 0. */
} spi_abi_session_info;
_Static_assert(sizeof(spi_abi_session_info) == 64, "the structs have no holes");

typedef struct spi_abi_sampler_options {
    float temperature; /* 0: greedy. */
    int32_t top_k; /* Keep the k likeliest; 0: all. */
    float top_p; /* Keep the smallest set whose probability reaches p; 0 or 1: all. */
    float min_p; /* Keep those at least min_p times as likely as the likeliest; 0: all. */
    float repeat_penalty; /* Divides positive and multiplies negative logits of tokens seen; 0 or 1: none. */
    float frequency_penalty; /* Subtracted once for each time that a token was seen. */
    float presence_penalty; /* Subtracted once if a token was seen. */
    int32_t penalty_last; /* How many of the latest tokens penalties look at; 0: 64; at most 4,096. */
    uint64_t seed; /* The same seed and logits give the same tokens on every machine. */
    uint64_t reserved; /* 0. */
} spi_abi_sampler_options;
_Static_assert(sizeof(spi_abi_sampler_options) == 48, "the structs have no holes");

typedef struct spi_abi_actor_message {
    uint64_t id; /* Its number; larger than that of any earlier message. */
    uint64_t time_ms; /* When it was sent, in milliseconds since 1970 (UTC). */
    /* Of kinds 2 and 4: the number that `actor_send` gave for the message that this is about; else 0. */
    uint64_t reply_to;
    /* 0 from outside, 1 from an actor, 2 an actor's reply, 3 a timer that this actor set, 4 a message that this
     * actor sent could not be handled, and the text says why. */
    uint32_t kind;
    uint32_t bytes; /* Length of its text. */
    uint32_t sender_bytes; /* Length of the name of the actor that it is from; 0 for kinds 0 and 3. */
    uint32_t attempt; /* 1, and one more for each time that handling it has failed. */
} spi_abi_actor_message;
_Static_assert(sizeof(spi_abi_actor_message) == 40, "the structs have no holes");

int32_t spi_host_abi_version(sp_guest *guest);
int32_t spi_host_error_message(sp_guest *guest, spi_output text);
int64_t spi_host_clock_ns(sp_guest *guest);
int32_t spi_host_counters(sp_guest *guest, spi_output counters);
int32_t spi_host_interrupted(sp_guest *guest);
int32_t spi_host_device_name(sp_guest *guest, spi_output text);
int32_t spi_host_device_link(sp_guest *guest);
int32_t spi_host_model_count(sp_guest *guest);
int32_t spi_host_model_name(sp_guest *guest, uint32_t index, spi_output text);
int32_t spi_host_model_open(sp_guest *guest, spi_input name);
int32_t spi_host_model_close(sp_guest *guest, int32_t model);
int32_t spi_host_model_info(sp_guest *guest, int32_t model, spi_output info);
int32_t spi_host_model_metadata(sp_guest *guest, int32_t model, spi_input key, spi_output text);
int32_t spi_host_tokenize(sp_guest *guest, int32_t model, spi_input text, uint32_t flags, spi_output tokens);
int32_t spi_host_detokenize(sp_guest *guest, int32_t model, spi_input tokens, uint32_t flags, spi_output text);
int32_t spi_host_token_is_end(sp_guest *guest, int32_t model, int32_t token);
int32_t spi_host_token_find(sp_guest *guest, int32_t model, spi_input text);
int32_t spi_host_token_bos(sp_guest *guest, int32_t model);
int32_t spi_host_token_eos(sp_guest *guest, int32_t model);
int32_t spi_host_session_create(sp_guest *guest, int32_t model, uint32_t context_max, uint32_t logits_rows_max);
int32_t spi_host_session_create_as(sp_guest *guest, int32_t model, uint32_t context_max, uint32_t logits_rows_max,
                                   uint32_t kv_type);
int32_t spi_host_session_append(sp_guest *guest, int32_t session, spi_input tokens, int32_t which, spi_job *job);
int32_t spi_host_session_lookup(sp_guest *guest, int32_t session, int32_t token, spi_output draft);
int32_t spi_host_session_truncate(sp_guest *guest, int32_t session, uint32_t length);
int32_t spi_host_session_length(sp_guest *guest, int32_t session);
int32_t spi_host_session_tokens(sp_guest *guest, int32_t session, spi_output tokens);
int32_t spi_host_session_info(sp_guest *guest, int32_t session, spi_output info);
int32_t spi_host_session_edited(sp_guest *guest, int32_t session, uint32_t offset, uint32_t bytes, spi_job *job);
int32_t spi_host_session_destroy(sp_guest *guest, int32_t session);
int32_t spi_host_sampler_create(sp_guest *guest, spi_input options);
int32_t spi_host_sampler_accept(sp_guest *guest, int32_t sampler, int32_t token);
int32_t spi_host_sampler_pick(sp_guest *guest, int32_t sampler, spi_input logits);
int32_t spi_host_session_sample(sp_guest *guest, int32_t session, int32_t sampler);
int32_t spi_host_session_pick(sp_guest *guest, int32_t session, int32_t sampler, spi_input tokens, spi_job *job);
int32_t spi_host_session_decode(sp_guest *guest, int32_t session, int32_t sampler, int32_t token);
int32_t spi_host_sampler_destroy(sp_guest *guest, int32_t sampler);
int32_t spi_host_matmul(sp_guest *guest, uint32_t a, uint32_t b, uint32_t c, uint32_t m, uint32_t n, uint32_t k, int32_t
                        type, spi_job *job);
int32_t spi_host_actor_self(sp_guest *guest, spi_output text);
int32_t spi_host_actor_message(sp_guest *guest, spi_output message);
int32_t spi_host_actor_read(sp_guest *guest, uint32_t offset, spi_output text);
int32_t spi_host_actor_sender(sp_guest *guest, spi_output text);
int32_t spi_host_actor_reply(sp_guest *guest, spi_input text);
int64_t spi_host_actor_send(sp_guest *guest, spi_input name, spi_input text);
int32_t spi_host_actor_sleep_until(sp_guest *guest, int64_t time_ms, spi_input note);
int64_t spi_host_actor_time_ms(sp_guest *guest);

#endif
