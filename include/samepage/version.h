/* samepage/version.h - which library this is. */
#ifndef SAMEPAGE_VERSION_H
#define SAMEPAGE_VERSION_H

#include "samepage/export.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SP_VERSION_MAJOR 0
#define SP_VERSION_MINOR 1
#define SP_VERSION_PATCH 0

/* "0.1.0", of the library that runs. */
SP_EXPORT const char *sp_version(void);

/* "48.0.0": the Wasmtime that it was built for, and the only one that it takes. */
SP_EXPORT const char *sp_wasmtime_version(void);

#ifdef __cplusplus
}
#endif
#endif
