/* Compiled with -DSPI_WASMTIME_CHECK where the official headers are: see guest/wasmtime.h. */
#include "guest/wasmtime.h"

/* What our own declarations leave out of the check: the official prototype returns something, the function does not. */
_Static_assert(sizeof &wasmtime_context_epoch_deadline_async_yield_and_update == sizeof(void (*)(void)), "is there");
