/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "parse.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "macros.h"

/* Digits at *text, which is moved behind them. */
static int take_uint(const char **text, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = *text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	}
	*text = p;
	*out = value;
	return 0;
}

int parse_uint(const char *text, uint64_t *out)
{
	uint64_t value;
	int ret = take_uint(&text, &value);

	if (ret)
		return ret;
	if (*text)
		return -EINVAL;
	*out = value;
	return 0;
}

int parse_int(const char *text, int64_t *out)
{
	bool minus = *text == '-';
	uint64_t value;
	int ret = parse_uint(text + minus, &value);

	if (ret)
		return ret;
	if (value > INT64_MAX)
		return -ERANGE;
	*out = minus ? -(int64_t)value : (int64_t)value;
	return 0;
}

/* The shift of a suffix such as "", "B", "K", "KB" or "KiB", or -EINVAL. */
static int suffix_shift(const char *suffix)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	if (!*suffix || !strcasecmp(suffix, "B"))
		return 0;
	unit = strchr(units, toupper((unsigned char)*suffix));
	if (!unit)
		return -EINVAL;
	suffix++;
	if (*suffix && strcasecmp(suffix, "B") && strcasecmp(suffix, "iB"))
		return -EINVAL;
	return 10 * (int)(unit - units + 1);
}

int parse_size(const char *text, uint64_t *out)
{
	uint64_t whole, fraction = 0, scale = 1;
	int shift, ret = take_uint(&text, &whole);

	if (ret)
		return ret;
	if (*text == '.') {
		const char *digits = ++text;

		ret = take_uint(&text, &fraction);
		if (ret)
			return ret;
		if (text - digits > 6)
			return -EINVAL;
		for (; digits < text; digits++)
			scale *= 10;
	}
	shift = suffix_shift(text);
	if (shift < 0)
		return shift;
	if (whole > UINT64_MAX >> shift)
		return -ERANGE;
	whole <<= shift;
	if (fraction) {
		__extension__ unsigned __int128 bytes = (unsigned __int128)fraction << shift;

		if (bytes % scale)
			return -EINVAL;
		whole += (uint64_t)(bytes / scale);
	}
	*out = whole;
	return 0;
}

int parse_bool(const char *text, bool *out)
{
	static const char *const words[][2] = {
		{ "no", "yes" }, { "off", "on" }, { "false", "true" }, { "0", "1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (int v = 0; v < 2; v++) {
			if (!strcasecmp(text, words[i][v])) {
				*out = v;
				return 0;
			}
		}
	}
	return -EINVAL;
}

int parse_mode(const char *text, uint32_t *out)
{
	uint32_t mode = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '7')
			return -EINVAL;
		mode = mode * 8 + (uint32_t)(*text - '0');
		if (mode > 0777)
			return -ERANGE;
	}
	*out = mode;
	return 0;
}

int parse_cpu_list(const char *text, void (*visit)(void *arg, unsigned cpu), void *arg)
{
	for (;;) {
		uint64_t first, last;
		int ret = take_uint(&text, &first);

		if (ret)
			return ret;
		last = first;
		if (*text == '-') {
			text++;
			ret = take_uint(&text, &last);
			if (ret)
				return ret;
		}
		if (last < first)
			return -EINVAL;
		if (last >= 8192)
			return -ERANGE;
		for (; visit && first <= last; first++)
			visit(arg, (unsigned)first);
		if (!*text)
			return 0;
		if (*text++ != ',')
			return -EINVAL;
	}
}

static void add_cpu(void *arg, unsigned cpu)
{
	if (cpu < CPU_SETSIZE)
		CPU_SET(cpu, (cpu_set_t *)arg);
}

void cpu_list_to_set(const char *text, cpu_set_t *set)
{
	CPU_ZERO(set);
	parse_cpu_list(text, add_cpu, set);
}

const char *format_size(char buffer[SIZE_TEXT_MAX], uint64_t bytes)
{
	static const char units[] = " KMGTPE";
	unsigned unit = 0;
	uint64_t scaled = bytes;

	while (scaled >= 1024 && !(scaled & 1023)) {
		scaled >>= 10;
		unit++;
	}
	if (unit)
		snprintf(buffer, SIZE_TEXT_MAX, "%" PRIu64 "%c", scaled, units[unit]);
	else
		snprintf(buffer, SIZE_TEXT_MAX, "%" PRIu64, scaled);
	return buffer;
}

int read_uint_file(const char *path, uint64_t *out)
{
	char text[32];
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, sizeof(text) - 1);
	if (got < 0)
		return -errno;
	text[got] = 0;
	text[strcspn(text, "\n")] = 0;
	return parse_uint(text, out);
}
