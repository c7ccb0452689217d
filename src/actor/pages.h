/* actor/pages.h - a checksum in every page of the database, because SQLite has none: XXH3 of the page and its number,
 * in 8 bytes that are reserved at its end. It is written when a page goes from the log into the file, and compared
 * whenever one is read from the file; the log has checksums of SQLite's own, which it compares when it is opened after
 * a crash.
 *
 * This is a VFS of SQLite's (sqlite.org/vfs.html) around the system's own. May include: base.
 */
#ifndef SPI_ACTOR_PAGES_H
#define SPI_ACTOR_PAGES_H

#define SPI_PAGES_VFS       "samepage-pages"
#define SPI_PAGE_BYTES      4096
#define SPI_PAGE_TAIL_BYTES 8

/* Registers the VFS; may be called often. Nonzero: SQLite has no VFS to build on. */
int spi_pages_register(void);

#endif
