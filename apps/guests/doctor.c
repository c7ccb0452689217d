/* apps/guests/doctor.c - the guest behind `samepage doctor`: the proof that a device computes in a guest's own memory.
 *
 * It owns three matrices, fills two with small whole numbers, has the device multiply them in place, and compares the
 * product, read through its own pointer, with its own triple loop. Whole numbers this small are exact in every order of
 * summation, so the comparison is ==. Exports:
 *   run_matmul() -> i32   how many of the 16,384 elements are wrong, or a negative status
 *   matmul_ns() -> i64    how long the latest product took
 *   product() -> i32      address of the product, so that the host can look at the same bytes
 *   product_hash() -> i32 FNV-1a of its bytes as the guest reads them
 */
#include <stdint.h>
#include <string.h>

#include "samepage.h"

#define SIDE 128

static _Alignas(16) float a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
static int64_t elapsed_ns;

/* Different numbers each time, so that a product left over from before would be found out. */
static void fill(void) {
    static uint32_t state = 1;
    for (int i = 0; i < SIDE * SIDE; i++) {
        state = state * 1664525u + 1013904223u;
        (&a[0][0])[i] = (float)((int32_t)(state >> 28) - 8);
        (&b[0][0])[i] = (float)((int32_t)(state >> 24 & 15) - 8);
    }
    memset(c, 0xff, sizeof c); /* not numbers: an element that nobody writes is wrong */
}

static int32_t count_wrong(void) {
    int32_t wrong = 0;
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            float sum = 0;
            for (int k = 0; k < SIDE; k++) {
                sum += a[i][k] * b[k][j];
            }
            wrong += !(c[i][j] == sum);
        }
    }
    return wrong;
}

__attribute__((export_name("run_matmul"))) int32_t run_matmul(void);
__attribute__((export_name("matmul_ns"))) int64_t matmul_ns(void);
__attribute__((export_name("product"))) uint32_t product(void);
__attribute__((export_name("product_hash"))) uint32_t product_hash(void);

int32_t run_matmul(void) {
    fill();
    int64_t start_ns = sp_clock_ns();
    int32_t status = sp_matmul(a, b, &c[0][0], SIDE, SIDE, SIDE, SP_F32);
    elapsed_ns = sp_clock_ns() - start_ns;
    return status < 0 ? status : count_wrong();
}

int64_t matmul_ns(void) {
    return elapsed_ns;
}

uint32_t product(void) {
    return (uint32_t)(uintptr_t)c;
}

uint32_t product_hash(void) {
    const uint8_t *bytes = (const uint8_t *)c;
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < sizeof c; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return hash;
}

int main(void) {
    return run_matmul() != 0;
}
