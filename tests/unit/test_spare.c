/* Memory of guests that have ended, for the next ones: nothing of one is seen by another, however it comes by the
 * memory and whoever clears it; the kept bytes are bounded and given back; what is refused or fails leaves everything
 * as it is without spare memory. The oracle of a restore is the same one into new memory. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "snapshot/snapshot.h"
#include "support/durable_rig.h"
#include "support/pinning.h"

#define MIB ((size_t)1 << 20)

static const char program[] = "(module"
                              " (memory (export \"memory\") 2)"
                              " (data (i32.const 16) \"hello\")"
                              " (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))"
                              " (func (export \"load\") (param i32) (result i32) (i32.load8_u (local.get 0)))"
                              " (func (export \"fill\") (param i32)"
                              "  (memory.fill (i32.const 0) (local.get 0)"
                              "   (i32.mul (memory.size) (i32.const 65536)))))";

typedef struct plain_rig {
    sp_engine *engine;
    sp_device *device;
} plain_rig;

static plain_rig open_rig(bool has_thread, uint64_t bytes_max) {
    plain_rig all = {.engine = test_engine(NULL)};
    const sp_device_options options = {.thread_count = 2, .spare_bytes_max = bytes_max};
    sp_error error = {0};
    TEST_OK(sp_device_open("cpu", &options, &all.device, &error), error);
    test_pin_device(all.device, has_thread);
    return all;
}

static void close_rig(plain_rig *all) {
    sp_engine_destroy(all->engine);
    test_unpin_device(all->device);
    assert_int_equal(test_pinned.links, test_pinned.unlinks);
    sp_device_close(all->device);
}

static sp_guest *make(plain_rig *all, sp_module *module) {
    const sp_guest_options options = {.device = all->device};
    sp_guest *guest;
    sp_error error = {0};
    TEST_OK(sp_guest_create(module, &options, &guest, &error), error);
    return guest;
}

static sp_device_counters counters_of(const sp_device *device) {
    sp_device_counters counters;
    sp_device_get_counters(device, &counters);
    return counters;
}

/* All of a guest's memory is as its module has it. */
static void check_fresh(const sp_guest *guest) {
    const uint8_t *base = sp_region_base(sp_guest_region(guest));
    size_t bytes = sp_region_size_bytes(sp_guest_region(guest)), others = 0;
    assert_memory_equal(base + 16, "hello", 5);
    for (size_t i = 0; i < bytes; i++) {
        others += base[i] != 0;
    }
    assert_int_equal(others, 5);
}

static void ends_full(sp_guest *guest, int64_t pages) {
    assert_true(test_result(guest, "grow", pages, 1) > 0);
    assert_int_equal(test_call(guest, "fill", &(int64_t){0xa5}, 1), SP_GUEST_IDLE);
    sp_guest_destroy(guest);
}

static void nothing_of_one_is_seen_by_another(void **state) {
    (void)state;
    for (int has_thread = 0; has_thread < 2; has_thread++) {
        plain_rig all = open_rig(has_thread, 0);
        sp_module *module = test_module(all.engine, program);
        for (uint64_t round = 0; round < 4; round++) {
            sp_guest *guest = make(&all, module);
            assert_int_equal(counters_of(all.device).spares_taken, round);
            assert_int_equal(counters_of(all.device).spare_bytes, 0);
            check_fresh(guest);
            uint64_t pages = 2;
            for (int64_t more = 1; more < 300; more *= 3) { /* zeros where it grows to, too, and nothing behind it */
                assert_int_equal(test_result(guest, "grow", more, 1), pages);
                pages += (uint64_t)more;
                check_fresh(guest);
            }
            assert_true(sp_region_committed_bytes(sp_guest_region(guest)) > pages << 16);
            if (round == 3) {
                assert_int_equal(test_call(guest, "load", &(int64_t){(int64_t)pages << 16}, 1), SP_GUEST_FAILED);
                test_failed(guest, SP_TRAPPED, "access outside of its memory");
                sp_guest_destroy(guest);
            } else {
                ends_full(guest, 100 * (int64_t)round);
            }
            assert_int_equal(test_pinned.links, 1);
            assert_true(counters_of(all.device).spare_bytes > pages << 16);
            assert_int_equal(counters_of(all.device).linked_bytes, 0);
        }
        sp_module_close(module);
        close_rig(&all);
    }
}

/* Guests that begin and end beside the thread that clears what they leave. */
static void many_come_and_go(void **state) {
    (void)state;
    plain_rig all = open_rig(true, 0);
    sp_module *module = test_module(all.engine, program);
    sp_guest *guests[4] = {0};
    for (uint32_t i = 0; i < 60; i++) {
        sp_guest **guest = &guests[i * 7 % 4];
        if (*guest) {
            check_fresh(*guest);
            ends_full(*guest, 1 + i % 5 * 16);
        }
        *guest = make(&all, module);
    }
    for (int i = 0; i < 4; i++) {
        sp_guest_destroy(guests[i]);
    }
    assert_int_equal(test_pinned.links, 4);
    sp_module_close(module);
    close_rig(&all);
}

static sp_region *take(sp_device *device, size_t size_bytes, size_t likely_bytes) {
    const spi_spare_wish wish = {.options = {.size_bytes = size_bytes}, .likely_bytes = likely_bytes};
    sp_region *region;
    uint64_t left_bytes;
    sp_error error = {0};
    TEST_OK(spi_spare_take(device, &wish, &region, &left_bytes, &error), error);
    assert_int_equal(left_bytes, 0);
    return region;
}

static void kept_bytes_are_bounded(void **state) {
    (void)state;
    plain_rig all = open_rig(true, 10 * MIB);
    sp_region *regions[3];
    for (int i = 0; i < 3; i++) {
        regions[i] = take(all.device, 4 * MIB, 0);
    }
    sp_region *large = take(all.device, 12 * MIB, 0);
    for (int i = 0; i < 3; i++) {
        spi_spare_leave(all.device, regions[i]);
    }
    spi_spare_leave(all.device, large); /* never had room */
    assert_int_equal(counters_of(all.device).spare_bytes, 8 * MIB);
    assert_int_equal(test_pinned.unlinks, 2);
    assert_ptr_equal(take(all.device, 4 * MIB, 0), regions[2]); /* the first one went */
    assert_ptr_equal(take(all.device, 4 * MIB, 0), regions[1]);
    spi_spare_leave(all.device, regions[1]);
    spi_spare_leave(all.device, regions[2]);
    sp_device_trim(all.device);
    assert_int_equal(counters_of(all.device).spare_bytes, 0);
    assert_int_equal(test_pinned.unlinks, 4);
    close_rig(&all);

    all = open_rig(true, UINT64_MAX);
    spi_spare_leave(all.device, take(all.device, 4 * MIB, 0));
    assert_int_equal(counters_of(all.device).spare_bytes, 0);
    close_rig(&all);
}

static void one_of_about_the_size_is_taken(void **state) {
    (void)state;
    plain_rig all = open_rig(false, 1024 * MIB);
    sp_region *small = take(all.device, 4 * MIB, 0), *middle = take(all.device, 40 * MIB, 0),
              *large = take(all.device, 200 * MIB, 0);
    spi_spare_leave(all.device, small);
    spi_spare_leave(all.device, large);
    spi_spare_leave(all.device, middle);
    assert_ptr_equal(take(all.device, 2 * MIB, 30 * MIB), middle);
    assert_ptr_equal(take(all.device, 100 * MIB, 0), large);
    assert_int_equal(sp_region_size_bytes(large), 100 * MIB);
    assert_int_equal(sp_region_committed_bytes(large), 200 * MIB);
    assert_ptr_equal(take(all.device, 6 * MIB, 0), small); /* what it lacks is made and linked */
    assert_int_equal(sp_region_size_bytes(small), 6 * MIB);
    spi_spare_leave(all.device, large);
    sp_region *other = take(all.device, 1 * MIB, 0); /* what is there is far too large for it */
    assert_ptr_not_equal(other, large);
    assert_int_equal(counters_of(all.device).spares_taken, 3);
    spi_spare_leave(all.device, other);
    spi_spare_leave(all.device, small);
    spi_spare_leave(all.device, middle);
    close_rig(&all);
}

/* Ranges that the caller is about to write stay as they are, and nothing else does. */
static void what_will_be_written_is_not_cleared(void **state) {
    (void)state;
    plain_rig all = open_rig(false, 0);
    const spi_region_range unwritten[] = {{64 << 10, 3 * MIB}, {5 * MIB, MIB}};
    spi_spare_wish wish = {.options = {.size_bytes = 7 * MIB}, .unwritten = unwritten, .unwritten_count = 2};
    sp_region *region;
    uint64_t left_bytes;
    sp_error error = {0};
    TEST_OK(spi_spare_take(all.device, &wish, &region, &left_bytes, &error), error);
    assert_int_equal(left_bytes, 0);
    memset(sp_region_base(region), 0x5a, 6 * MIB);
    spi_spare_leave(all.device, region);
    TEST_OK(spi_spare_take(all.device, &wish, &region, &left_bytes, &error), error);
    assert_int_equal(left_bytes, 4 * MIB);
    for (size_t i = 0; i < 7 * MIB; i++) {
        bool is_unwritten = (i >= 64 << 10 && i < (64 << 10) + 3 * MIB) || (i >= 5 * MIB && i < 6 * MIB);
        assert_int_equal(sp_region_base(region)[i], is_unwritten ? 0x5a : 0);
    }
    spi_spare_leave(all.device, region);
    close_rig(&all);
}

static void spare_memory_makes_room(void **state) {
    (void)state;
    plain_rig all = open_rig(true, 0);
    sp_error error = {0};
    sp_region *a = take(all.device, 4 * MIB, 0), *b = take(all.device, 4 * MIB, 0), *c = take(all.device, 4 * MIB, 0);
    spi_spare_leave(all.device, a);
    test_pinned.refusals = 1; /* growing: the link of what is more is refused, and then not */
    TEST_OK(sp_region_grow(b, 32 * MIB, &error), error);
    assert_int_equal(counters_of(all.device).spare_bytes, 0);
    spi_spare_leave(all.device, b);
    test_pinned.refusals = 1; /* a new region, for which what is there is too large */
    a = take(all.device, MIB / 2, 0);
    assert_int_equal(test_pinned.refusals, 1);
    spi_spare_leave(all.device, a);
    sp_region *far = NULL;
    const sp_region_options other = {.reserve_bytes = 64 * MIB, .size_bytes = MIB};
    TEST_OK(sp_region_create(&other, &far, &error), error);
    TEST_OK(sp_device_link(all.device, far, &error), error);
    assert_int_equal(counters_of(all.device).spare_bytes, 0);
    test_pinned.refusals = 1; /* nothing is spare any more */
    assert_int_equal(sp_region_grow(c, 32 * MIB, &error), SP_NO_MEMORY);
    sp_device_unlink(all.device, far);
    sp_region_destroy(far);
    spi_spare_leave(all.device, c);
    close_rig(&all);
}

/* What is somebody else's too, has pages of files, or what the device cannot forget is not kept. */
static void some_regions_are_not_kept(void **state) {
    (void)state;
    plain_rig all = open_rig(true, 0);
    sp_error error = {0};
    sp_device *other;
    sp_region *region = take(all.device, 4 * MIB, 0);
    test_pinned.cannot_forget = true;
    spi_spare_leave(all.device, region);
    assert_int_equal(counters_of(all.device).spare_bytes, 0);
    test_pinned.cannot_forget = false;
    TEST_OK(sp_device_open("cpu", NULL, &other, &error), error);
    spi_spare_leave(other, take(other, 4 * MIB, 0)); /* costs nothing to link */
    assert_int_equal(counters_of(other).spare_bytes, 0);
    sp_device_close(other);
    close_rig(&all);
}

/* ---- restoring ---- */

static void open_durable(durable_rig *rig) {
    test_durable_open(rig, true);
    test_pin_device(rig->device, false);
}

static void close_durable(durable_rig *rig) {
    sp_module_close(rig->module);
    sp_engine_destroy(rig->engine);
    sp_model_close(rig->model);
    test_unpin_device(rig->device);
    sp_device_close(rig->device);
}

/* Spare memory, larger than what any guest here has, in which every byte is another's. */
static void leave_garbage(durable_rig *rig) {
    const spi_spare_wish wish = {.options = {.reserve_bytes = SPI_MEMORY_RESERVE_BYTES,
                                             .size_bytes = 24 * MIB,
                                             .guard_bytes = SPI_MEMORY_GUARD_BYTES}};
    sp_region *region;
    uint64_t left_bytes;
    sp_error error = {0};
    sp_device_trim(rig->device);
    TEST_OK(spi_spare_take(rig->device, &wish, &region, &left_bytes, &error), error);
    memset(sp_region_base(region), 0xc3, sp_region_size_bytes(region));
    spi_spare_leave(rig->device, region);
}

/* Two guests of which one was made in new memory and the other in another's. */
static void check_same(sp_guest *a, sp_guest *b) {
    const sp_region *x = sp_guest_region(a), *y = sp_guest_region(b);
    assert_int_equal(sp_region_size_bytes(x), sp_region_size_bytes(y));
    assert_true(memcmp(sp_region_base(x), sp_region_base(y), sp_region_size_bytes(x)) == 0);
    test_durable_same(a, b, 20);
    sp_guest_destroy(a);
    sp_guest_destroy(b);
}

/* The store has blocks, or with `is_empty` each restore has one that has none. */
static void check_restored(durable_rig *rig, const sp_snapshot *snapshot, sp_store *store, bool is_empty,
                           uint32_t computed) {
    sp_guest *guests[2];
    sp_store *stores[2] = {store, store};
    sp_error error = {0};
    for (int i = 0; i < 2; i++) {
        sp_restore_report report;
        if (is_empty) {
            TEST_OK(sp_store_open(&(sp_store_options){0}, &stores[i], &error), error);
        }
        const sp_restore_options options = {.store = stores[i], .report = &report, .recompute = true};
        sp_device_trim(rig->device);
        if (i) {
            leave_garbage(rig);
        }
        uint64_t taken = counters_of(rig->device).spares_taken;
        guests[i] = test_durable_restore(rig, snapshot, &options);
        assert_int_equal(counters_of(rig->device).spares_taken, taken + (uint64_t)i);
        assert_int_equal(report.computed_tokens, computed);
    }
    check_same(guests[0], guests[1]);
    for (int i = 0; i < 2 && is_empty; i++) {
        sp_store_close(stores[i]);
    }
}

static sp_guest *told(durable_rig *rig, uint32_t tokens) {
    sp_guest *guest = test_durable_guest(rig, 512, false);
    test_durable_call(guest, "tell", 5, tokens, 2);
    return guest;
}

static void a_restore_is_what_it_is_in_new_memory(void **state) {
    (void)state;
    durable_rig rig;
    static const uint32_t lengths[] = {1, 24, 64, 128, 200, 300};
    sp_error error = {0};
    open_durable(&rig);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        sp_store *store;
        TEST_OK(sp_store_open(&(sp_store_options){0}, &store, &error), error);
        sp_guest *guest = told(&rig, lengths[i]);
        sp_snapshot *apart = test_durable_capture(guest, store), *inside = NULL;
        const sp_capture_options capture = {.inside = true};
        TEST_OK(sp_guest_capture(guest, &capture, &inside, &error), error);
        check_restored(&rig, apart, store, false, 0);
        check_restored(&rig, inside, NULL, false, 0);
        check_restored(&rig, apart, NULL, true, lengths[i] < 64 ? 0 : lengths[i]); /* no block is found */
        sp_snapshot_close(inside);
        sp_snapshot_close(apart);
        sp_guest_destroy(guest);
        sp_store_close(store);
    }
    close_durable(&rig);
}

static void a_fork_is_too(void **state) {
    (void)state;
    enum { FORKS = 3 }; /* copied from the guest, and then out of an image */
    durable_rig rig;
    sp_error error = {0};
    sp_store *store;
    open_durable(&rig);
    TEST_OK(sp_store_open(&(sp_store_options){0}, &store, &error), error);
    sp_guest *guest = told(&rig, 200), *forks[2][FORKS];
    for (int spare = 0; spare < 2; spare++) {
        test_durable_call(guest, "peek", 1, 0, 1); /* it has run since it was forked last */
        for (int i = 0; i < FORKS; i++) {
            sp_device_trim(rig.device);
            if (spare) {
                leave_garbage(&rig);
            }
            uint64_t taken = counters_of(rig.device).spares_taken;
            TEST_OK(sp_guest_fork(guest, store, NULL, &forks[spare][i], &error), error);
            assert_int_equal(counters_of(rig.device).spares_taken, taken + (uint64_t)spare);
        }
    }
    for (int i = 0; i < FORKS; i++) {
        check_same(forks[0][i], forks[1][i]);
    }
    sp_guest_destroy(guest);
    sp_store_close(store);
    close_durable(&rig);
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    durable_rig rig;
    open_durable(&rig);
    sp_guest *guest = told(&rig, 130);
    sp_error error = {0};
    sp_snapshot *snapshot;
    const sp_capture_options capture = {.inside = true};
    TEST_OK(sp_guest_capture(guest, &capture, &snapshot, &error), error);
    sp_status status = SP_NO_MEMORY;
    for (long n = 0; status; n++) {
        sp_guest *restored;
        leave_garbage(&rig);
        spi_memory_fail_after(n);
        status = sp_guest_restore(snapshot, rig.module, &rig.options, NULL, &restored, &error);
        sp_guest_destroy(restored);
        spi_memory_fail_after(-1);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        assert_true(n < 1000);
    }
    sp_snapshot_close(snapshot);
    sp_guest_destroy(guest);
    close_durable(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_of_one_is_seen_by_another),
        cmocka_unit_test(many_come_and_go),
        cmocka_unit_test(kept_bytes_are_bounded),
        cmocka_unit_test(one_of_about_the_size_is_taken),
        cmocka_unit_test(what_will_be_written_is_not_cleared),
        cmocka_unit_test(spare_memory_makes_room),
        cmocka_unit_test(some_regions_are_not_kept),
        cmocka_unit_test(a_restore_is_what_it_is_in_new_memory),
        cmocka_unit_test(a_fork_is_too),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
