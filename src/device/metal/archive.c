/* device/metal/archive.c - compiled pipelines kept for the next start, in a file of the user's cache
 * (MTLBinaryArchive).
 *
 * Nothing depends on it: where it cannot be opened, made or written, kernels are compiled each time, as they are the
 * first time. The file is named by the kernels' texts, and Metal itself refuses one of another chip or system.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/memory.h"
#include "device/metal/metal.h"
#include "os/file.h"

#define PATH_BYTES 1024u

static void name_by_texts(char name[33]) {
    spi_hasher hasher;
    spi_hash_begin(&hasher);
    for (uint32_t i = 0; i < SPI_MT_KERNEL_COUNT; i++) {
        spi_hash_add(&hasher, spi_mt_sources[i].text, strlen(spi_mt_sources[i].text));
    }
    spi_hash_text(spi_hash_end(&hasher), name);
}

/* What is in the file runs on the device: it has to be in nobody's reach but the user's. */
static bool folder_is_own(const char *folder) {
    struct stat info;
    return !stat(folder, &info) && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
           !(info.st_mode & (S_IWGRP | S_IWOTH));
}

static spi_mt_id open_at(const spi_mt *mt, const char *path) {
    const spi_mt_runtime *objc = &mt->objc;
    spi_mt_id descriptor = spi_mt_new_of_class(objc, "MTLBinaryArchiveDescriptor"), why = NULL;
    if (!descriptor) {
        return NULL;
    }
    if (path) {
        spi_mt_id url = spi_mt_file_url(objc, objc->get_class("NSURL"), spi_mt_text(objc, path));
        spi_mt_set_url(objc, descriptor, url);
    }
    spi_mt_id archive = spi_mt_new_archive(objc, mt->device, descriptor, &why);
    spi_mt_release(objc, descriptor);
    return archive;
}

void spi_mt_archive_open(spi_mt *mt) {
    char folder[PATH_BYTES], path[PATH_BYTES + 64], name[33];
    sp_error ignored;
    if (spi_folder_cache(folder, sizeof folder) || spi_folder_create(folder, &ignored) || !folder_is_own(folder)) {
        return;
    }
    name_by_texts(name);
    snprintf(path, sizeof path, "%s/metal-%s.archive", folder, name);
    mt->archive_path = spi_copy_string(path, strlen(path));
    if (!mt->archive_path) {
        return;
    }
    void *pool = mt->objc.push_pool();
    mt->archive = access(path, R_OK) ? NULL : open_at(mt, path);
    mt->archive_found = mt->archive != NULL;
    mt->archive = mt->archive ? mt->archive : open_at(mt, NULL);
    mt->objc.pop_pool(pool);
}

void spi_mt_archive_use(spi_mt *mt, spi_mt_id descriptor) {
    if (mt->archive) {
        spi_mt_id list = spi_mt_array_of(&mt->objc, mt->objc.get_class("NSArray"), mt->archive);
        spi_mt_set_archives(&mt->objc, descriptor, list);
    }
}

void spi_mt_archive_keep(spi_mt *mt, spi_mt_id descriptor) {
    spi_mt_id why = NULL;
    if (mt->archive && spi_mt_archive_add(&mt->objc, mt->archive, descriptor, &why)) {
        mt->archive_grew = true;
    }
}

/* To a name of its own first: another process may read the old file. */
static void write_archive(spi_mt *mt) {
    char path[PATH_BYTES + 96];
    snprintf(path, sizeof path, "%s.%ld", mt->archive_path, (long)getpid());
    void *pool = mt->objc.push_pool();
    spi_mt_id why = NULL, text = spi_mt_text(&mt->objc, path);
    spi_mt_id url = spi_mt_file_url(&mt->objc, mt->objc.get_class("NSURL"), text);
    if (!spi_mt_archive_write(&mt->objc, mt->archive, url, &why) || rename(path, mt->archive_path)) {
        unlink(path);
    }
    mt->objc.pop_pool(pool);
}

void spi_mt_archive_close(spi_mt *mt) {
    if (mt->archive && mt->archive_grew) {
        write_archive(mt);
    }
    spi_mt_release(&mt->objc, mt->archive);
    spi_free(mt->archive_path);
    mt->archive = NULL;
    mt->archive_path = NULL;
}
