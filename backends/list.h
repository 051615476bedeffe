/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One line for each backend; included more than once, so without a guard. */
BACKEND(fault)
BACKEND(file)
BACKEND(mem)
BACKEND(null)
