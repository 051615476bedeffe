/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The texts of the *.varlink files beside this one, made a source at the build. */
#ifndef INTERFACES_H
#define INTERFACES_H

extern const char interface_io_ublkd[], interface_org_varlink_service[];

#endif
