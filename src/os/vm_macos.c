/* os/vm_macos.c - what of vm.h is macOS's own. It has no huge pages to ask for and no memory without a name that can be
 * mapped twice: POSIX shared memory there cannot change its size and cannot be written to, so a temporary file takes
 * its place. */
#include <errno.h>
#include <fcntl.h>
#include <mach/mach.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/vm.h"

void spi_vm_advise_huge(void *address, size_t bytes) {
    (void)address;
    (void)bytes;
}

sp_status spi_vm_file_create(size_t bytes, int *file) {
    const char *folder = getenv("TMPDIR");
    char path[1024];
    int length = snprintf(path, sizeof path, "%s/samepage-XXXXXX", folder && folder[0] ? folder : "/tmp");
    *file = length > 0 && (size_t)length < sizeof path ? mkstemp(path) : -1;
    if (*file < 0) {
        return SP_UNSUPPORTED;
    }
    unlink(path);
    fcntl(*file, F_SETFD, FD_CLOEXEC);
    if (ftruncate(*file, (off_t)bytes)) {
        close(*file);
        *file = -1;
        return SP_NO_MEMORY;
    }
    return SP_OK;
}

bool spi_vm_has_access(const void *address, size_t bytes, bool writable) {
    vm_address_t next = (vm_address_t)(uintptr_t)address, end = next + bytes;
    while (next < end) {
        vm_address_t start = next;
        vm_size_t size = 0;
        vm_region_basic_info_data_64_t info;
        mach_msg_type_number_t count = VM_REGION_BASIC_INFO_COUNT_64;
        mach_port_t object = MACH_PORT_NULL;
        /* Gives the first region that ends behind the address, which may begin behind it, too. */
        kern_return_t failed = vm_region_64(mach_task_self(), &start, &size, VM_REGION_BASIC_INFO_64,
                                            (vm_region_info_t)(void *)&info, &count, &object);
        if (object != MACH_PORT_NULL) {
            mach_port_deallocate(mach_task_self(), object);
        }
        if (failed) {
            return failed != KERN_INVALID_ADDRESS;
        }
        if (start > next || !(info.protection & VM_PROT_READ) || (writable && !(info.protection & VM_PROT_WRITE))) {
            return false;
        }
        next = start + size;
    }
    return true;
}

size_t spi_vm_resident_bytes(void) {
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)(void *)&info, &count)) {
        return 0;
    }
    return (size_t)info.resident_size;
}

void spi_vm_populate(void *address, size_t bytes, bool huge) {
    (void)huge; /* and pages are made as they are written to */
    madvise(address, bytes, MADV_WILLNEED);
}
