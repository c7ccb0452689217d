/* os/quota.h - how much of the processors the control groups leave to this process (Linux's Documentation/admin-guide:
 * cgroup-v2.rst, cgroup-v1/cgroups.rst; proc_pid_mountinfo(5)). May include: base. */
#ifndef SPI_OS_QUOTA_H
#define SPI_OS_QUOTA_H

#include <stdint.h>

/* Whole processors, rounded up: the least that the process's group or any group above it may have, as far as this
 * process sees them; 0 if none has a limit. The files are /proc/self/cgroup and /proc/self/mountinfo, or a test's. */
uint32_t spi_quota_read(const char *groups_file, const char *mounts_file);

#endif
