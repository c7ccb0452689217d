/* The file of compiled pipelines: written, read again, and refused when it is not to be trusted. Skipped only without a
 * device. */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "device/vulkan/vulkan.h"
#include "os/file.h"

static char folder[] = "/tmp/samepage-test-XXXXXX", cache[64], path[160];

/* Opens the device, compiles a kernel if asked, and says how many bytes came from disk; -1: there is no device. */
static long use_device(bool compile) {
    sp_error error = {0};
    sp_device *device;
    sp_status status = sp_device_open("vulkan", NULL, &device, &error);
    if (status == SP_NO_DEVICE || status == SP_UNSUPPORTED) {
        return -1;
    }
    TEST_OK(status, error);
    void *context;
    spi_device_backend(device, &context);
    spi_vk *vk = context;
    long bytes = (long)vk->cache_bytes;
    snprintf(path, sizeof path, "%s/samepage/vulkan-", folder);
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++) {
        snprintf(path + strlen(path), 3, "%02x", vk->adapter.cache_id[i]);
    }
    if (compile) {
        VkPipeline pipeline;
        TEST_OK(spi_vk_pipeline_need(vk, SPI_VK_add, (spi_vk_variant){0}, &pipeline, &error), error);
    }
    sp_device_close(device);
    return bytes;
}

static void change(size_t at_end, int by) {
    void *data;
    size_t bytes;
    sp_error error = {0};
    TEST_OK(spi_file_read(path, (size_t)64 << 20, &data, &bytes, &error), error);
    ((uint8_t *)data)[at_end ? bytes - at_end : 8] ^= (uint8_t)by;
    TEST_OK(spi_file_write(path, data, bytes, false, &error), error);
    spi_free(data);
}

static void test_cache(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    snprintf(cache, sizeof cache, "%s/samepage", folder);
    if (use_device(false) < 0) {
        rmdir(folder);
        skip();
    }
    assert_int_not_equal(access(path, F_OK), 0); /* nothing was compiled, nothing is written */
    assert_int_equal(use_device(true), 0);
    assert_int_equal(access(path, R_OK), 0);
    long bytes = use_device(false);
    assert_true(bytes >= 32);

    change(1, 1); /* the checksum */
    assert_int_equal(use_device(false), 0);
    change(1, 1);
    assert_int_equal(use_device(false), bytes);
    change(0, 1); /* the vendor in the driver's header */
    assert_int_equal(use_device(false), 0);
    change(0, 1);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(use_device(true), 0); /* and a good one again */
    assert_int_equal(use_device(false), bytes);

    chmod(path, 0666); /* others may have written */
    assert_int_equal(use_device(false), 0);
    chmod(path, 0600);
    chmod(cache, 0777);
    assert_int_equal(use_device(false), 0);
    assert_int_equal(use_device(true), 0); /* nor is it written there */
    chmod(cache, 0700);
    assert_int_equal(use_device(false), bytes);

    unlink(path);
    rmdir(cache);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cache)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
