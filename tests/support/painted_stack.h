/* tests/support/painted_stack.h - how deep calls go: the stack of a thread is painted, and looked at for how far the
 * paint has gone. May include: support.h. */
#ifndef TEST_PAINTED_STACK_H
#define TEST_PAINTED_STACK_H

#include "support/support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TEST_STACK_BYTES ((size_t)2 << 20)
#define TEST_STACK_PAINT 0x5a

typedef struct test_errand {
    void (*run)(void *env);
    void *env;
} test_errand;

static void *test_do_errand(void *env) {
    test_errand *todo = env;
    todo->run(todo->env);
    return NULL;
}

/* Bytes of stack that a function took on a thread that calls nothing else. */
static inline size_t test_stack_of(void (*run)(void *env), void *env) {
    static unsigned char *stack;
    if (!stack) {
        stack = aligned_alloc(4096, TEST_STACK_BYTES);
        assert_non_null(stack);
    }
    memset(stack, TEST_STACK_PAINT, TEST_STACK_BYTES);
    pthread_attr_t attributes;
    pthread_t thread;
    test_errand todo = {run, env};
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, TEST_STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, test_do_errand, &todo), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    size_t untouched = 0;
    while (untouched < TEST_STACK_BYTES && stack[untouched] == TEST_STACK_PAINT) {
        untouched++;
    }
    return TEST_STACK_BYTES - untouched;
}

#endif
