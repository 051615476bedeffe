/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker of an ordinary user's, between the supervisor, which is root, and itself. */
#ifndef BECOME_H
#define BECOME_H

/*
 * "ublkd --as IDENTITY ublkd ARG… NAME": becomes that user (identity.h) for good, with nothing of
 * root's but the guards and limits that a server needs, and then is "ublkd ARG… NAME". NAME is
 * what its messages begin with.
 */
int become_main(int argc, char **argv);

#endif
