/* What lies in a session's KV blocks: the rows that tape.h states, at the offsets that it states, the same on every
 * device as far as numbers allow; and a conversation that goes on on another device over them. */
#include "support/session_rig.h"

#include <math.h>
#include <string.h>

#include "model/model.h"
#include "support/support.h"

#define F16_STEP 0x1p-10 /* from one f16 to the next, at most, as a share of it */

static const float *weight(const char *name) {
    const spi_weights *weights = spi_model_weights(test_rig.tiny);
    for (uint32_t i = 0; i < weights->count; i++) {
        if (!strcmp(weights->tensors[i].name, name)) {
            return weights->tensors[i].data;
        }
    }
    fail_msg("no %s", name);
    return NULL;
}

enum { TINY_WIDTH = 64, TINY_HEAD = 32 }; /* of tests/support/tiny_model.c, and one KV head */

/* The first layer's K or V row of a token in double precision, K turned to its position; magnitudes are the sums of
 * what was added up, without signs. */
static void expect_row(int32_t token, uint32_t which, uint32_t position, double *row, double *magnitudes) {
    const float *x = weight("token_embd.weight") + (size_t)token * TINY_WIDTH;
    const float *norm = weight("blk.0.attn_norm.weight");
    const float *matrix = weight(which ? "blk.0.attn_v.weight" : "blk.0.attn_k.weight");
    double squares = 0;
    for (int i = 0; i < TINY_WIDTH; i++) {
        squares += (double)x[i] * x[i];
    }
    double scale = 1 / sqrt(squares / TINY_WIDTH + 1e-5);
    for (int r = 0; r < TINY_HEAD; r++) {
        row[r] = magnitudes[r] = 0;
        for (int i = 0; i < TINY_WIDTH; i++) {
            double term = (double)matrix[r * TINY_WIDTH + i] * x[i] * scale * norm[i];
            row[r] += term;
            magnitudes[r] += fabs(term);
        }
    }
    for (int pair = 0; !which && pair < TINY_HEAD / 2; pair++) {
        double angle = position * pow(10000, -2.0 * pair / TINY_HEAD), a = row[2 * pair], b = row[2 * pair + 1];
        row[2 * pair] = a * cos(angle) - b * sin(angle);
        row[2 * pair + 1] = a * sin(angle) + b * cos(angle);
        magnitudes[2 * pair] = magnitudes[2 * pair + 1] = magnitudes[2 * pair] + magnitudes[2 * pair + 1];
    }
}

static double number(const sp_session *session, const spi_kv_shape *shape, uint32_t layer, uint32_t which,
                     uint32_t head, uint32_t position, uint32_t column) {
    sp_session_view view;
    sp_session_get_view(session, &view);
    const uint8_t *blocks = sp_region_base(sp_session_region(session)) + view.kv_offset;
    return (double)spi_kv_value(shape, blocks, layer, which, head, position, column);
}

/* By how much a number of a row is rounded: half a step of f16; in Q8_0 half of the largest of 32 over 127, whose own
 * f16 moves 127 steps by 2^-11 of it. */
static double rounding(const spi_kv_shape *shape, const double *row, uint32_t i) {
    double largest = 0;
    for (uint32_t k = i / 32 * 32; k < i / 32 * 32 + 32; k++) {
        largest = fmax(largest, fabs(row[k]));
    }
    return spi_kv_is_q8(shape) ? largest * (0.5 / 127 + 0x1p-10) : fabs(row[i]) * F16_STEP / 2;
}

/* What lies at a row's offset is that row. It was rounded once, by half a step at most; 64 products were added in
 * f32, each addition off by at most 2^-24 of the magnitudes, and so were the norm's and the rotation's few steps; the
 * angle is a product in f32 too, which at position 129 is off by some 129 * 2^-22. */
static void check_rows(sp_device *device) {
    enum { COUNT = 130 };
    int32_t tokens[COUNT];
    test_tokens(test_rig.tiny, 2, tokens, COUNT);
    sp_session *session = test_session_create(test_rig.tiny, device, COUNT, 1);
    test_session_append(session, tokens, COUNT, SP_LOGITS_NONE);
    for (uint32_t position = 0; position < COUNT; position++) {
        for (uint32_t which = 0; which < 2; which++) {
            double expected[TINY_HEAD], magnitudes[TINY_HEAD];
            expect_row(tokens[position], which, position, expected, magnitudes);
            const spi_kv_shape *shape = test_kv_shape(test_rig.tiny);
            for (uint32_t i = 0; i < TINY_HEAD; i++) {
                double allowed = rounding(shape, expected, i) + magnitudes[i] * (80 * 0x1p-24 + position * 0x1p-22);
                assert_true(fabs(number(session, shape, 0, which, 0, position, i) - expected[i]) <= allowed);
            }
        }
    }
    sp_session_destroy(session);
}

static void test_row_offsets(void **state) {
    (void)state;
    check_rows(test_rig.reference);
    check_rows(test_rig.cpu);
    sp_device *vulkan = test_rig_vulkan(test_rig.tiny);
    if (!vulkan) {
        skip();
    }
    check_rows(vulkan);
    sp_model_unload(test_rig.tiny, vulkan);
    sp_device_close(vulkan);
}

/* How far two sessions' rows of a layer are apart, as a share of the first one's: root mean squares. */
static double layer_distance(const sp_session *a, const sp_session *b, const spi_kv_shape *shape, uint32_t layer) {
    double squares = 0, all = 0;
    for (uint32_t which = 0; which < 2; which++) {
        for (uint32_t head = 0; head < shape->kv_heads; head++) {
            for (uint32_t position = 0; position < sp_session_token_count(a); position++) {
                for (uint32_t i = 0; i < shape->head_dim; i++) {
                    double x = number(a, shape, layer, which, head, position, i);
                    double distance = x - number(b, shape, layer, which, head, position, i);
                    squares += distance * distance;
                    all += x * x;
                }
            }
        }
    }
    assert_true(all > 0);
    return sqrt(squares / all);
}

/* With F32 weights both devices compute in f32, and rows differ where a number lay between two f16: by a step. If each
 * number of a layer were off by one, and those that it was made of, in K and in V of each layer before it, by one too,
 * a layer's rows were apart by 1 + 2 * layer steps. One wrong row among them counts for about 60. */
static void test_blocks_agree(void **state) {
    (void)state;
    enum { COUNT = 150 };
    sp_device *vulkan = test_rig_vulkan(test_rig.tiny);
    if (!vulkan) {
        skip();
    }
    int32_t tokens[COUNT];
    test_tokens(test_rig.tiny, 3, tokens, COUNT);
    sp_session *a = test_session_create(test_rig.tiny, test_rig.cpu, COUNT, 1);
    sp_session *b = test_session_create(test_rig.tiny, vulkan, COUNT, 1);
    test_session_append(a, tokens, COUNT, SP_LOGITS_NONE);
    test_session_append(b, tokens, COUNT, SP_LOGITS_NONE);
    for (uint32_t layer = 0; layer < test_kv_shape(test_rig.tiny)->layers; layer++) {
        assert_true(layer_distance(a, b, test_kv_shape(test_rig.tiny), layer) <= (1 + 2 * layer) * F16_STEP);
    }
    sp_session_destroy(b);
    sp_session_destroy(a);
    sp_model_unload(test_rig.tiny, vulkan);
    sp_device_close(vulkan);
}

/* With Q8_0 weights the cpu device rounds what it multiplies to 8 bits and Vulkan does not. A block of 32 numbers has
 * steps of its largest / 127, so errors of that / sqrt(12), and its largest is at most sqrt(32) times its root mean
 * square: a product is off by at most the share `once` of itself. Errors of different products are independent and add
 * as squares: one product makes K or V, and four stand behind each other in every layer before. Keys and values in Q8_0
 * are rounded in the same way once more, on both devices. */
static void assert_blocks_near(const sp_session *a, const sp_session *b) {
    const double once = sqrt(32) / 127 / sqrt(12), own = spi_kv_is_q8(test_kv_shape(test_rig.demo)) ? 3 : 1;
    for (uint32_t layer = 0; layer < test_kv_shape(test_rig.demo)->layers; layer++) {
        assert_true(layer_distance(a, b, test_kv_shape(test_rig.demo), layer) <= once * sqrt(own + 4.0 * layer));
    }
}

static int32_t pick(sp_session *session) {
    sp_sampler *sampler = NULL;
    sp_error error = {0};
    int32_t token = -1;
    TEST_OK(sp_sampler_create(NULL, &sampler, &error), error);
    TEST_OK(sp_session_sample(session, sampler, &token, &error), error);
    sp_sampler_destroy(sampler);
    return token;
}

/* Goes on greedily on three sessions to the end of the answer; they must say the same. The logits of the third are not
 * asked for the first token: they are those of another text. Returns the length of what was said. */
static size_t answer(sp_session *const sessions[3], char *text, size_t capacity) {
    enum { SAID_MAX = 24 };
    const sp_tokenizer *tokenizer = sp_model_tokenizer(test_rig.demo, NULL);
    int32_t said[SAID_MAX];
    size_t count = 0, bytes = 0;
    sp_error error = {0};
    while (count < SAID_MAX) {
        int32_t token = pick(sessions[0]);
        assert_int_equal(pick(sessions[1]), token);
        if (count) {
            assert_int_equal(pick(sessions[2]), token);
        }
        if (sp_tokenizer_is_end(tokenizer, token)) {
            break;
        }
        said[count++] = token;
        for (int i = 0; i < 3; i++) {
            test_session_append(sessions[i], &token, 1, SP_LOGITS_LAST);
        }
    }
    TEST_OK(sp_tokenizer_decode(tokenizer, said, count, 0, text, capacity - 1, &bytes, &error), error);
    text[bytes] = 0;
    return count;
}

/* A conversation goes on on another device over the first one's blocks. The session there has seen other tokens: only
 * the blocks, once they are copied, can make it say the same. */
static void test_move(void **state) {
    (void)state;
    static const char text[] = "<|start_header_id|>user<|end_header_id|>\n\nMy name is Ada and my boat is green."
                               "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nNice to meet you, Ada! Your "
                               "boat is green.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat colour is my "
                               "boat?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    enum { CONTEXT = 128 };
    int32_t prompt[CONTEXT], other[CONTEXT];
    size_t count = 0;
    char said[256];
    sp_error error = {0};
    sp_device *vulkan = test_rig_vulkan(test_rig.demo);
    if (!vulkan) {
        skip();
    }
    TEST_OK(sp_tokenizer_encode(sp_model_tokenizer(test_rig.demo, &error), text, sizeof text - 1,
                                SP_ENCODE_SPECIAL | SP_ENCODE_PARSE_SPECIAL, prompt, CONTEXT, &count, &error),
            error);
    test_tokens(test_rig.demo, 4, other, (uint32_t)count);
    sp_session *sessions[3];
    for (int i = 0; i < 3; i++) {
        sessions[i] = test_session_create(test_rig.demo, i ? vulkan : test_rig.cpu, CONTEXT, 1);
        test_session_append(sessions[i], i == 2 ? other : prompt, (uint32_t)count, SP_LOGITS_LAST);
    }
    assert_blocks_near(sessions[0], sessions[1]);
    sp_session_view from, to;
    sp_session_get_view(sessions[0], &from);
    sp_session_get_view(sessions[2], &to);
    assert_int_equal(from.kv_bytes, to.kv_bytes);
    memcpy(sp_region_base(sp_session_region(sessions[2])) + to.kv_offset,
           sp_region_base(sp_session_region(sessions[0])) + from.kv_offset, from.kv_bytes);
    assert_true(answer(sessions, said, sizeof said) > 3);
    assert_non_null(strstr(said, "green"));
    for (int i = 0; i < 3; i++) {
        sp_session_destroy(sessions[i]);
    }
    sp_model_unload(test_rig.demo, vulkan);
    sp_device_close(vulkan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_offsets),
        cmocka_unit_test(test_blocks_agree),
        cmocka_unit_test(test_move),
    };
    return cmocka_run_group_tests(tests, test_rig_open, test_rig_close);
}
