/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "uuid.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "macros.h"
#include "sha1.h"

#define BYTES 16
#define LONGEST_NAME 128

static bool is_dash(int place)
{
	return place == 8 || place == 13 || place == 18 || place == 23;
}

int uuid_read(const char *text, char uuid[UUID_SIZE])
{
	if (strlen(text) != UUID_SIZE - 1)
		return -EINVAL;
	for (int i = 0; i < UUID_SIZE - 1; i++) {
		if (is_dash(i) ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return -EINVAL;
	}
	for (int i = 0; i < UUID_SIZE; i++)
		uuid[i] = (char)tolower((unsigned char)text[i]);
	return 0;
}

/* The bytes are the UUID's, but for its version and variant. */
static void print(uint8_t bytes[BYTES], unsigned version, char uuid[UUID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned nibble = 0;

	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | version << 4);
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
	for (int i = 0; i < UUID_SIZE - 1; i++) {
		uuid[i] = '-';
		if (is_dash(i))
			continue;
		uuid[i] = digits[bytes[nibble / 2] >> (nibble % 2 ? 0 : 4) & 0x0f];
		nibble++;
	}
	uuid[UUID_SIZE - 1] = 0;
}

void uuid_make(char uuid[UUID_SIZE])
{
	uint8_t bytes[BYTES] = { 0 };

	/* It is no secret, so early in a boot nobody has to wait for it. */
	while (getrandom(bytes, sizeof(bytes), GRND_INSECURE) < 0 && errno == EINTR)
		;
	print(bytes, 4, uuid);
}

static int digit_of(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ?
	       tolower((unsigned char)c) - 'a' + 10 : -1;
}

static int read_digits(const char *file, uint8_t bytes[BYTES])
{
	_cleanup_fd_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char text[2 * BYTES];

	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof(text)) != sizeof(text))
		return -EINVAL;
	for (int i = 0; i < BYTES; i++) {
		int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int uuid_of_name(const char *file, const char *name, char uuid[UUID_SIZE])
{
	uint8_t data[BYTES + LONGEST_NAME], digest[SHA1_SIZE];
	size_t length = strlen(name);
	int ret = length > LONGEST_NAME ? -ENAMETOOLONG : read_digits(file, data);

	if (ret)
		return ret;
	memcpy(data + BYTES, name, length);
	sha1(data, BYTES + length, digest);
	print(digest, 5, uuid);
	return 0;
}
