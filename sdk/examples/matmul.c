/* matmul.c - the smallest guest that computes: the device multiplies two matrices where they lie.
 *
 *     clang --target=wasm32-wasi -O2 -Isdk/c/include -o matmul.wasm sdk/examples/matmul.c
 *     samepage run matmul.wasm
 *
 * The matrices are ordinary C arrays. Nothing is sent anywhere: the device is told three addresses and three sizes, and
 * when sp_matmul returns, the product is in `c`, as if this program had computed it. Then it does compute it, with a
 * triple loop, and counts the elements that differ. There should be none: the numbers are small and whole, so no order
 * of summation rounds them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "samepage.h"

#define N 128

/* The device wants matrices that begin at a multiple of 16 bytes. */
static _Alignas(16) float a[N][N], b[N][N], c[N][N];

int main(void) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = (float)((i * 7 + j * 3) % 16 - 8);
            b[i][j] = (float)((i * 5 + j * 11) % 16 - 8);
        }
    }

    char text[SP_ERROR_TEXT_BYTES];
    int64_t start_ns = sp_clock_ns();
    if (sp_matmul(a, b, &c[0][0], N, N, N, SP_F32) < 0) {
        fprintf(stderr, "matmul: %s\n", sp_error_text(text, sizeof text));
        return 1;
    }
    int64_t elapsed_ns = sp_clock_ns() - start_ns;

    int wrong = 0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < N; k++) {
                sum += a[i][k] * b[k][j];
            }
            wrong += c[i][j] != sum;
        }
    }

    int length = sp_device_name(text, sizeof text);
    printf("%d of %d elements wrong; %.*s took %" PRId64 " us\n", wrong, N * N, length < 0 ? 0 : length, text,
           elapsed_ns / 1000);
    return wrong != 0;
}
