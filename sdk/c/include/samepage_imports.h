/* samepage_imports.h - the imports as they are, for guests in C;
 * made by tools/generate_imports.py from sdk/imports.def: change that and run it.
 *
 * Most guests include samepage.h instead, which includes this. Built for something else than Wasm, the imports
 * are ordinary external functions, so that guest code can be tested with doubles. */
// clang-format off
#ifndef SAMEPAGE_IMPORTS_H
#define SAMEPAGE_IMPORTS_H

#include <stdint.h>

#ifdef __wasm__
#define SP_IMPORT(name) __attribute__((import_module("samepage"), import_name(name)))
#else
#define SP_IMPORT(name)
#endif

/* A positive number; a negative one is a status. */
typedef int32_t sp_handle;

#ifndef SAMEPAGE_STATUS_H /* the host's own header has the same list */
typedef enum sp_status {
    SP_OK = 0, /* ok */
    SP_INVALID = -1, /* an argument is not valid */
    SP_NO_MEMORY = -2, /* not enough memory */
    SP_NO_ADDRESS_SPACE = -3, /* not enough address space */
    SP_NOT_FOUND = -4, /* not found */
    SP_IO = -5, /* input or output failed */
    SP_BAD_FILE = -6, /* the file is damaged or not of this format */
    SP_UNSUPPORTED = -7, /* not supported */
    SP_NO_DEVICE = -8, /* no such device */
    SP_DEVICE_LOST = -9, /* the device failed */
    SP_LINK_REFUSED = -10, /* the device cannot use this memory */
    SP_CONTEXT_FULL = -11, /* the context is full */
    SP_BAD_HANDLE = -12, /* no such handle */
    SP_BAD_POINTER = -13, /* a pointer or length lies outside of memory */
    SP_LIMIT = -14, /* a limit was reached */
    SP_CANCELLED = -15, /* cancelled */
    SP_TIMEOUT = -16, /* time ran out */
    SP_TRAPPED = -17, /* the guest trapped */
    SP_BUSY = -18, /* in use */
    SP_BUFFER_TOO_SMALL = -19, /* the buffer is too small */
    SP_INTERNAL = -20, /* an error of samepage itself */
} sp_status;
#endif

/* ---- The interface itself ---- */

typedef struct sp_counters {
    uint64_t host_calls; /* Imports called. */
    uint64_t host_ns; /* Nanoseconds spent in them, computing excluded. */
    uint64_t compute_ns; /* From asking for computing to having it. */
    uint64_t prompt_tokens; /* Tokens appended two or more at a time. */
    uint64_t prompt_ns; /* Time that they took. */
    uint64_t generated_tokens; /* Tokens appended one at a time. */
    uint64_t generated_ns; /* Time that they took. */
    uint64_t slices; /* Times that the guest was preempted. */
    uint64_t run_ns; /* Of compute_ns, what the device itself took; the rest is the way there and back. */
} sp_counters;
_Static_assert(sizeof(sp_counters) == 72, "the structs have no holes");

/* The version of this interface: 1. It changes only if something is removed, which is not planned. */
SP_IMPORT("abi_version")
int32_t sp_import_abi_version(void);

/* The length of the message; 0 if nothing has failed yet. Success of a later import does not clear it.
 * text: gets the message of the latest failure.
 * Fails with SP_BAD_POINTER. */
SP_IMPORT("error_message")
int32_t sp_import_error_message(char *text, uint32_t capacity);

/* Monotonic time in nanoseconds, from an arbitrary start. */
SP_IMPORT("clock_ns")
int64_t sp_import_clock_ns(void);

/* What the guest has cost so far: calls over the boundary, and computing.
 * Fails with SP_BAD_POINTER. */
SP_IMPORT("counters")
int32_t sp_import_counters(sp_counters *counters, uint32_t bytes);

/* 1 once after someone asked the guest to stop what it is doing (Ctrl-C), else 0. Cheap enough for every token. */
SP_IMPORT("interrupted")
int32_t sp_import_interrupted(void);

/* ---- The device ---- */

/* The length of the name of the device that this guest's sessions and products run on.
 * text: gets the name, as in "cpu" or "vulkan".
 * Fails with SP_NO_DEVICE, SP_BAD_POINTER. */
SP_IMPORT("device_name")
int32_t sp_import_device_name(char *text, uint32_t capacity);

/* How the device reaches the guest's memory: 0 shared (the same bytes), 1 mapped (the same bytes over a bus), 2
 * mirrored (a copy that every write goes through), 3 copied.
 * Fails with SP_NO_DEVICE. */
SP_IMPORT("device_link")
int32_t sp_import_device_link(void);

/* ---- Models ---- */

typedef struct sp_model_info {
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
} sp_model_info;
_Static_assert(sizeof(sp_model_info) == 216, "the structs have no holes");

/* How many models this guest may open. */
SP_IMPORT("model_count")
int32_t sp_import_model_count(void);

/* The length of a model's name.
 * index: below `model_count`.
 * Fails with SP_NOT_FOUND, SP_BAD_POINTER. */
SP_IMPORT("model_name")
int32_t sp_import_model_name(uint32_t index, char *text, uint32_t capacity);

/* A handle of the model.
 * name: at most 255 bytes; empty for the first model.
 * Fails with SP_NOT_FOUND, SP_INVALID, SP_LIMIT, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("model_open")
sp_handle sp_import_model_open(const char *name, uint32_t name_bytes);

/* Gives the handle up.
 * Fails with SP_BAD_HANDLE. */
SP_IMPORT("model_close")
int32_t sp_import_model_close(sp_handle model);

/* Facts about the model. Names are zero-terminated.
 * Fails with SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("model_info")
int32_t sp_import_model_info(sp_handle model, sp_model_info *info, uint32_t bytes);

/* The length of the value as text: numbers and booleans are printed, arrays are "[N values]". If it is larger than
 * the capacity, nothing is written.
 * key: such as "tokenizer.chat_template", at most 255 bytes.
 * Fails with SP_NOT_FOUND, SP_INVALID, SP_LIMIT, SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("model_metadata")
int32_t sp_import_model_metadata(sp_handle model, const char *key, uint32_t key_bytes, char *text, uint32_t capacity);

/* ---- Text ---- */

/* How many tokens the text is. If there are more than the capacity, nothing useful was written.
 * text: at most 1 MiB at once; need not be UTF-8.
 * flags: 1 puts the beginning- and end-of-text tokens where the model wants them; 2 makes "<|eot_id|>" in the text
 * the special token that it names. Leave 2 out for text that a stranger wrote.
 * Fails with SP_INVALID, SP_LIMIT, SP_UNSUPPORTED, SP_BAD_HANDLE, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("tokenize")
int32_t sp_import_tokenize(sp_handle model, const char *text, uint32_t text_bytes, uint32_t flags, int32_t *tokens,
                           uint32_t capacity);

/* The length of the tokens' text. If it is larger than the capacity, nothing useful was written.
 * tokens: at most 1,048,576 at once.
 * flags: 1 shows special tokens as their names; else they are left out.
 * Fails with SP_INVALID, SP_LIMIT, SP_UNSUPPORTED, SP_BAD_HANDLE, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("detokenize")
int32_t sp_import_detokenize(sp_handle model, const int32_t *tokens, uint32_t count, uint32_t flags, char *text,
                             uint32_t capacity);

/* 1 if generation ends after this token, else 0.
 * Fails with SP_UNSUPPORTED, SP_BAD_HANDLE. */
SP_IMPORT("token_is_end")
int32_t sp_import_token_is_end(sp_handle model, int32_t token);

/* The token with exactly this text.
 * text: at most 255 bytes.
 * Fails with SP_NOT_FOUND, SP_INVALID, SP_LIMIT, SP_UNSUPPORTED, SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("token_find")
int32_t sp_import_token_find(sp_handle model, const char *text, uint32_t text_bytes);

/* The token for beginning of text.
 * Fails with SP_NOT_FOUND, SP_UNSUPPORTED, SP_BAD_HANDLE. */
SP_IMPORT("token_bos")
int32_t sp_import_token_bos(sp_handle model);

/* The token for end of text.
 * Fails with SP_NOT_FOUND, SP_UNSUPPORTED, SP_BAD_HANDLE. */
SP_IMPORT("token_eos")
int32_t sp_import_token_eos(sp_handle model);

/* ---- Sessions ---- */

typedef struct sp_session_info {
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
} sp_session_info;
_Static_assert(sizeof(sp_session_info) == 64, "the structs have no holes");

/* A handle of an empty session. The guest's memory grows by what it needs, unless a destroyed session has left room.
 * Keys and values are kept in the type that the guest was started with.
 * context_max: tokens that it will ever hold; 0 for the model's own, at most 8,192.
 * logits_rows_max: rows that one append may ask for; 0 for 1.
 * Fails with SP_NO_DEVICE, SP_INVALID, SP_LIMIT, SP_NO_MEMORY, SP_BAD_HANDLE, SP_LINK_REFUSED, SP_UNSUPPORTED. */
SP_IMPORT("session_create")
sp_handle sp_import_session_create(sp_handle model, uint32_t context_max, uint32_t logits_rows_max);

/* The same with a type of its own. SP_UNSUPPORTED: the device, or the model's width of heads, does not go with it.
 * context_max: as above.
 * logits_rows_max: as above.
 * kv_type: what keys and values are kept in: 0 as the guest was started, 1 F16, 2 Q8_0, which takes 17/32 of the
 * memory.
 * Fails with SP_NO_DEVICE, SP_INVALID, SP_LIMIT, SP_NO_MEMORY, SP_BAD_HANDLE, SP_LINK_REFUSED, SP_UNSUPPORTED. */
SP_IMPORT("session_create_as")
sp_handle sp_import_session_create_as(sp_handle model, uint32_t context_max, uint32_t logits_rows_max, uint32_t
                                      kv_type);

/* Appends tokens and computes. On failure nothing was appended, except that a cancelled append keeps what was
 * computed.
 * which: 0 leaves logits of the last token, 1 a row for each token, 2 none.
 * Fails with SP_INVALID, SP_CONTEXT_FULL, SP_LIMIT, SP_CANCELLED, SP_DEVICE_LOST, SP_BAD_HANDLE, SP_BAD_POINTER,
 * SP_NO_MEMORY. */
SP_IMPORT("session_append")
int32_t sp_import_session_append(sp_handle session, const int32_t *tokens, uint32_t count, int32_t which);

/* Proposes what followed the session's latest tokens and this one when they last stood in the session before, and
 * returns how many tokens that is; 0 if they never did. It proposes no token that ends a text. Append them with
 * `token` in one call, with a row of logits for each, pick behind each, and truncate behind the first that was not
 * proposed: `sp_lookup_append` of the C helpers does.
 * token: the one that will be appended next.
 * Fails with SP_INVALID, SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("session_lookup")
int32_t sp_import_session_lookup(sp_handle session, int32_t token, int32_t *draft, uint32_t capacity);

/* Forgets everything from this position on, in no time. There are no logits until the next append.
 * length: tokens to keep.
 * Fails with SP_INVALID, SP_BAD_HANDLE. */
SP_IMPORT("session_truncate")
int32_t sp_import_session_truncate(sp_handle session, uint32_t length);

/* Tokens at present.
 * Fails with SP_BAD_HANDLE. */
SP_IMPORT("session_length")
int32_t sp_import_session_length(sp_handle session);

/* Copies the session's tokens from the first on and returns how many there are in all.
 * Fails with SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("session_tokens")
int32_t sp_import_session_tokens(sp_handle session, int32_t *tokens, uint32_t capacity);

/* Where the session's blocks and logits are, and how large.
 * Fails with SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("session_info")
int32_t sp_import_session_info(sp_handle session, sp_session_info *info, uint32_t bytes);

/* Says that the guest wrote keys or values by itself, so that a device that keeps a copy of them takes them over
 * before it computes again. From then on no store takes blocks of this session in. The tokens stay what they are:
 * where a state is restored, blocks may be computed from them again, without what was edited.
 * offset: in bytes from where `session_info` says that keys and values begin.
 * bytes: how many were written.
 * Fails with SP_BAD_HANDLE, SP_BAD_POINTER, SP_DEVICE_LOST, SP_NO_MEMORY. */
SP_IMPORT("session_edited")
int32_t sp_import_session_edited(sp_handle session, uint32_t offset, uint32_t bytes);

/* Ends the session. Its range of memory stays a part of linear memory and is used for later sessions.
 * Fails with SP_BAD_HANDLE. */
SP_IMPORT("session_destroy")
int32_t sp_import_session_destroy(sp_handle session);

/* ---- Sampling ---- */

typedef struct sp_sampler_options {
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
} sp_sampler_options;
_Static_assert(sizeof(sp_sampler_options) == 48, "the structs have no holes");

/* A handle of a sampler. SP_UNSUPPORTED: the guest sets a field that this host does not know.
 * options: zero everywhere is greedy; 0 bytes are that, too.
 * Fails with SP_INVALID, SP_UNSUPPORTED, SP_LIMIT, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("sampler_create")
sp_handle sp_import_sampler_create(const sp_sampler_options *options, uint32_t bytes);

/* Tells the sampler of a token of the prompt, or of one that `sampler_pick` gave and that was taken: penalties count
 * it.
 * Fails with SP_INVALID, SP_BAD_HANDLE. */
SP_IMPORT("sampler_accept")
int32_t sp_import_sampler_accept(sp_handle sampler, int32_t token);

/* Picks a token from these logits, without accepting it.
 * logits: anywhere in linear memory, for instance changed by the guest; at most 1,048,576. NaN counts as minus
 * infinity.
 * Fails with SP_INVALID, SP_LIMIT, SP_BAD_HANDLE, SP_BAD_POINTER. */
SP_IMPORT("sampler_pick")
int32_t sp_import_sampler_pick(sp_handle sampler, const float *logits, uint32_t vocab);

/* Picks a token from the last row of logits and accepts it. It is not appended.
 * Fails with SP_INVALID, SP_BAD_HANDLE. */
SP_IMPORT("session_sample")
int32_t sp_import_session_sample(sp_handle session, sp_handle sampler);

/* Appends tokens as `session_append` does and returns the one behind them, picked and accepted, but not appended.
 * There are no logits then: where the device picks they stay there, which is what makes this faster than
 * `session_append` and `session_sample` when many guests decode at the same time. A sampler with temperature, and
 * without penalties, top_k and top_p, picks by noise that is a function of its seed and the token's position, not by
 * what it has drawn so far: the same seed, position and logits give the same token on every device. Other samplers
 * pick what `session_sample` would, greedy ones on the device.
 * tokens: at least one.
 * Fails with SP_INVALID, SP_CONTEXT_FULL, SP_CANCELLED, SP_DEVICE_LOST, SP_BAD_HANDLE, SP_BAD_POINTER, SP_LIMIT,
 * SP_NO_MEMORY. */
SP_IMPORT("session_pick")
int32_t sp_import_session_pick(sp_handle session, sp_handle sampler, const int32_t *tokens, uint32_t count);

/* Appends a token, picks the next one from its logits and accepts that: one step of decoding in one import. Only
 * while no other guest wants to run or to compute, and not with every device; else SP_BUSY, and nothing was done:
 * use `session_append` and `session_sample`, which wait. `sp_session_decode` of the SDK does that.
 * Fails with SP_BUSY, SP_INVALID, SP_CONTEXT_FULL, SP_DEVICE_LOST, SP_BAD_HANDLE, SP_NO_MEMORY. */
SP_IMPORT("session_decode")
int32_t sp_import_session_decode(sp_handle session, sp_handle sampler, int32_t token);

/* Gives the sampler up.
 * Fails with SP_BAD_HANDLE. */
SP_IMPORT("sampler_destroy")
int32_t sp_import_sampler_destroy(sp_handle sampler);

/* ---- Computing ---- */

/* c = a * b, computed by the device in the guest's own memory. All three are aligned to 16 bytes. At most 4,096
 * cubed multiplications at once.
 * a: m rows of k numbers, row by row.
 * b: k rows of n numbers.
 * c: m rows of n f32, which get the product; must not overlap a or b.
 * type: of a and b: 0 f32, 1 f16. Sums are f32.
 * Fails with SP_NO_DEVICE, SP_INVALID, SP_LIMIT, SP_BAD_POINTER, SP_DEVICE_LOST. */
SP_IMPORT("matmul")
int32_t sp_import_matmul(const void *a, const void *b, void *c, uint32_t m, uint32_t n, uint32_t k, int32_t type);

/* ---- Actors ---- */

typedef struct sp_actor_message {
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
} sp_actor_message;
_Static_assert(sizeof(sp_actor_message) == 40, "the structs have no holes");

/* The length of this actor's name.
 * Fails with SP_UNSUPPORTED, SP_BAD_POINTER. */
SP_IMPORT("actor_self")
int32_t sp_import_actor_self(char *text, uint32_t capacity);

/* Facts about the message that is being handled.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_BAD_POINTER. */
SP_IMPORT("actor_message")
int32_t sp_import_actor_message(sp_actor_message *message, uint32_t bytes);

/* Copies the message's text from offset on and returns how many bytes were copied.
 * offset: of the first byte that is wanted; at most the length.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_BAD_POINTER. */
SP_IMPORT("actor_read")
int32_t sp_import_actor_read(uint32_t offset, char *text, uint32_t capacity);

/* The length of the name of the actor that the message is from; 0 for kinds 0 and 3.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_BAD_POINTER. */
SP_IMPORT("actor_sender")
int32_t sp_import_actor_sender(char *text, uint32_t capacity);

/* Adds to the reply. Whoever waits outside sees the piece at once, and is told if it must be taken back. A sender
 * that is an actor gets the whole as one message of kind 2. To kinds 2, 3 and 4 nobody waits for a reply: it is kept
 * in the log.
 * text: a piece of the reply; pieces are joined. At most 1 MiB in all.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_LIMIT, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("actor_reply")
int32_t sp_import_actor_reply(const char *text, uint32_t text_bytes);

/* The number of a message, which is sent once this one is handled. At most 1,024 for one message, and none to an
 * actor for which 100,000 wait.
 * name: of an actor that exists, at most 64 bytes; may be this one.
 * text: at most 1 MiB.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_NOT_FOUND, SP_LIMIT, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("actor_send")
int64_t sp_import_actor_send(const char *name, uint32_t name_bytes, const char *text, uint32_t text_bytes);

/* Sets a timer: a message of kind 3 then arrives, whether the actor is in memory or not. There is one timer for each
 * note, and at most 64 are set or forgotten for one message.
 * time_ms: milliseconds since 1970 (UTC); one that has passed is at once; 0 forgets the timer.
 * note: at most 255 bytes; becomes the text of the message.
 * Fails with SP_UNSUPPORTED, SP_INVALID, SP_LIMIT, SP_BAD_POINTER, SP_NO_MEMORY. */
SP_IMPORT("actor_sleep_until")
int32_t sp_import_actor_sleep_until(int64_t time_ms, const char *note, uint32_t note_bytes);

/* Milliseconds since 1970 (UTC), by the host's clock, which may be set back.
 * Fails with SP_UNSUPPORTED. */
SP_IMPORT("actor_time_ms")
int64_t sp_import_actor_time_ms(void);

#endif
