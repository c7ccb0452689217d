/* actor/folder.h - a data folder, and holding it alone. Owns: the lock. May include: os, base. */
#ifndef SPI_ACTOR_FOLDER_H
#define SPI_ACTOR_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samepage/status.h"

/* Whether anybody ever held it: there is a lock, or the actors themselves, or something that opening will tell of. */
bool spi_folder_was_held(const char *folder);

/* Makes the folder, 0700, if it is not there, and takes the lock in it (flock on "lock", with the holder's pid in it).
 * SP_BUSY names the holder. The lock goes with the process, however it ends. */
sp_status spi_folder_hold(const char *folder, int *lock, sp_error *error);
void spi_folder_let_go(int lock);

/* folder/states/NAME.snap, of 16 bytes as hexadecimal digits. SP_LIMIT. */
sp_status spi_folder_state_path(const char *folder, const uint8_t name[16], char *path, size_t capacity,
                                sp_error *error);

/* Calls with each state's name that a file in folder/states has, and removes the file if told to, as well as temporary
 * files that somebody left. */
sp_status spi_folder_sweep(const char *folder, int (*is_wanted)(void *env, const uint8_t name[16]), void *env,
                           sp_error *error);

#endif
