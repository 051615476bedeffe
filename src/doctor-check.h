/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the checks of doctor.h share: how they say what they found, and how they look at files
 * below the root.
 */
#ifndef DOCTOR_CHECK_H
#define DOCTOR_CHECK_H

#include <stdarg.h>
#include <stdio.h>

#include "doctor.h"

#define PATH_ROOM 4096

__attribute__((format(printf, 3, 4)))
void doctor_found(struct doctor *doctor, enum doctor_level level, const char *format, ...);
/* These two add to the last one that was found. */
__attribute__((format(printf, 2, 3)))
void doctor_expected(struct doctor *doctor, const char *format, ...);
__attribute__((format(printf, 2, 3)))
void doctor_remedy(struct doctor *doctor, const char *format, ...);

/* Below the root; returns path. */
const char *doctor_path(const struct doctor *doctor, char path[PATH_ROOM], const char *name);
bool doctor_there(const struct doctor *doctor, const char *name);
/* NULL and errno, as fopen(). */
FILE *doctor_open(const struct doctor *doctor, const char *name);
/* "" if there is none. */
void doctor_first_line(const struct doctor *doctor, const char *name, char *line, size_t size);
/* Of a file; -errno. */
int doctor_number(const struct doctor *doctor, const char *name, uint64_t *number);
/* A number of /proc/self/status. */
bool doctor_status_number(const struct doctor *doctor, const char *key, int base, uint64_t *number);
/* A capability, in the first user namespace, as those of another count for nothing in the driver. */
bool doctor_has(const struct doctor *doctor, unsigned capability);

/* doctor-driver.c */
void doctor_check_kernel(struct doctor *doctor);
void doctor_check_module(struct doctor *doctor);
void doctor_check_parameters(struct doctor *doctor);
void doctor_check_control_node(struct doctor *doctor);
void doctor_check_features(struct doctor *doctor);
void doctor_check_kernel_log(struct doctor *doctor);

/* doctor-server.c */
void doctor_check_io_uring(struct doctor *doctor);
void doctor_check_memlock(struct doctor *doctor);
void doctor_check_files(struct doctor *doctor);
void doctor_check_privileges(struct doctor *doctor);
void doctor_check_liburing(struct doctor *doctor);
void doctor_check_helper(struct doctor *doctor);
void doctor_check_commands(struct doctor *doctor);
void doctor_check_device_files(struct doctor *doctor);

/* doctor-nodes.c */
void doctor_check_nodes(struct doctor *doctor);
void doctor_check_udev_rules(struct doctor *doctor);
void doctor_check_users(struct doctor *doctor);
void doctor_check_mount_namespace(struct doctor *doctor);

/* doctor-devices.c */
void doctor_check_devices(struct doctor *doctor);

#endif
