/* apps/signals.h - Ctrl-C while a guest runs. May include: everything to the left of apps.
 *
 * The first Ctrl-C asks the guest to stop what it is doing: its `interrupted` import answers 1, and computing that is
 * in flight is cut short. A guest that neither hears of it nor is waiting for computing is one that reads its input or
 * that does not know of interrupts; after a moment it is ended, and so is any guest at a second Ctrl-C that it has not
 * heard of yet. What still runs then (it is blocked in a read) takes the program with it, as if nothing had been
 * caught.
 */
#ifndef SPI_APPS_SIGNALS_H
#define SPI_APPS_SIGNALS_H

#include <stdbool.h>

#include "samepage/guest.h"

/* One guest at a time. is_prompt: the guest reads lines, so that a Ctrl-C that it does not hear ends the program. */
void spi_signals_catch(sp_guest *guest, bool is_prompt);

/* Puts things back as they were. */
void spi_signals_release(void);

/* True if there was a Ctrl-C since spi_signals_catch. */
bool spi_signals_seen(void);

#endif
