/* guest/cache.h - compiled modules on disk.
 *
 * A file holds what Wasmtime serialised, the WebAssembly that it was made of, and a footer with lengths, the key of
 * spi_config_key and a checksum. Loading foreign machine code would be running it, so that a file counts only if it and
 * its folder are this user's alone, the checksum is right and the WebAssembly in it is the very one that is wanted:
 * names are made of a hash that is not cryptographic, and two modules that share one must not share code.
 *
 * May include: os, base.
 */
#ifndef SPI_GUEST_CACHE_H
#define SPI_GUEST_CACHE_H

#include "guest/guest.h"

/* The path of a module in a folder. False: too long. */
bool spi_cache_path(const char *folder, uint64_t key, const void *wasm, size_t wasm_bytes, char *path, size_t capacity);

/* Makes the folder if need be; true if it is this user's and nobody else may write in it. */
bool spi_cache_folder_is_safe(const char *folder);

/* NULL if there is no such file, or it is not to be trusted, damaged, or of other settings: compile again. */
wasmtime_module_t *spi_cache_load(wasm_engine_t *engine, const char *path, uint64_t key, const void *wasm,
                                  size_t wasm_bytes);

/* Writes a file as it is loaded, whole or not at all. */
sp_status spi_cache_store(const char *path, uint64_t key, const void *wasm, size_t wasm_bytes,
                          const wasm_byte_vec_t *artifact, sp_error *error);

/* Removes from a folder of this user's what compilations left that were killed: the folders they worked in, and files
 * that were not yet whole. Who is still at it is younger than what is removed. */
void spi_cache_sweep(const char *folder);

#define SPI_COMPILE_FOLDER   "compile-XXXXXX" /* as for mkdtemp */
#define SPI_COMPILE_MS_MAX   600000
#define SPI_CACHE_LEFTOVER_S 3600

#endif
