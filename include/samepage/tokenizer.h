/* samepage/tokenizer.h - text to token ids and back, as the model's file describes it.
 *
 * Two families: byte-level BPE ("gpt2" in GGUF's tokenizer.ggml.model, with the pre-tokeniser that
 * tokenizer.ggml.pre names) and SentencePiece-style BPE over scores ("llama"). Both are total: any bytes, invalid UTF-8
 * too, become tokens, and for the byte-level family decode(encode(x)) == x if the vocabulary has a token for each byte,
 * as they all do (what it cannot say is left out).
 *
 * A tokenizer is borrowed from its model (sp_model_tokenizer), immutable, and may be used by any number of threads.
 */
#ifndef SAMEPAGE_TOKENIZER_H
#define SAMEPAGE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sp_tokenizer sp_tokenizer;

/* SP_ENCODE_SPECIAL puts the beginning- and end-of-text tokens where the model's file says that it wants them;
 * SP_ENCODE_PARSE_SPECIAL makes "<|eot_id|>" in the text the one special token that it names. Leave the latter out for
 * text that a stranger wrote. */
#define SP_ENCODE_SPECIAL       1u
#define SP_ENCODE_PARSE_SPECIAL 2u

/* SP_DECODE_SPECIAL shows special tokens as their names; else they are left out. */
#define SP_DECODE_SPECIAL 1u

/* Writes at most capacity ids to tokens (which may be NULL if capacity is 0); *count is how many there are in all.
 * SP_BUFFER_TOO_SMALL if *count > capacity: nothing useful was written, but *count is right. text need not end in a
 * zero byte and must not change meanwhile. SP_LIMIT: more than 256 MiB at once. SP_NO_MEMORY. */
SP_EXPORT sp_status sp_tokenizer_encode(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes,
                                        uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                                        sp_error *error);

/* The bytes of the tokens, without a zero byte at the end. A token may hold a part of a UTF-8 sequence: join pieces
 * before showing them. Same manner of capacity and *bytes. An id out of range is SP_INVALID. For the SentencePiece
 * family the first token's leading space is kept: what a piece is does not depend on its neighbours. */
SP_EXPORT sp_status sp_tokenizer_decode(const sp_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                                        uint32_t flags, char *text, size_t capacity, size_t *bytes, sp_error *error);

SP_EXPORT uint32_t sp_tokenizer_vocab(const sp_tokenizer *tokenizer);

/* Token ids, or -1 where the model has none. */
SP_EXPORT int32_t sp_tokenizer_bos(const sp_tokenizer *tokenizer);
SP_EXPORT int32_t sp_tokenizer_eos(const sp_tokenizer *tokenizer);

/* True for every token after which generation ends: end of text, end of turn, and those that the usual chat formats
 * end a message with ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>", ...). */
SP_EXPORT bool sp_tokenizer_is_end(const sp_tokenizer *tokenizer, int32_t token);

/* The id of the token with exactly this text, or -1. */
SP_EXPORT int32_t sp_tokenizer_find(const sp_tokenizer *tokenizer, const char *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif
#endif
