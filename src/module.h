/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The driver as a module of the kernel. */
#ifndef MODULE_H
#define MODULE_H

#include <stdbool.h>

#define DRIVER_MODULE "/sys/module/ublk_drv"

/* Below the folder root, "" for the system's: a kernel of this release has it as a module. */
bool module_known(const char *root, const char *release);
/* It has it built in. */
bool module_built_in(const char *root, const char *release);

#endif
