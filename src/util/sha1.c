/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sha1.h"

#include <string.h>

#define BLOCK 64
#define WORDS 5

static uint32_t rotate(uint32_t word, unsigned bits)
{
	return word << bits | word >> (32 - bits);
}

static uint32_t mix(unsigned step, uint32_t b, uint32_t c, uint32_t d)
{
	if (step < 20)
		return ((b & c) | (~b & d)) + 0x5a827999;
	if (step < 40)
		return (b ^ c ^ d) + 0x6ed9eba1;
	if (step < 60)
		return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
	return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t state[WORDS], const uint8_t block[BLOCK])
{
	uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (unsigned i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (unsigned i = 0; i < 80; i++) {
		uint32_t next = rotate(a, 5) + mix(i, b, c, d) + e + w[i];

		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = next;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
}

void sha1(const void *data, size_t length, uint8_t digest[SHA1_SIZE])
{
	uint32_t state[WORDS] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	const uint8_t *from = data;
	uint8_t last[2 * BLOCK] = { 0 };
	size_t left = length % BLOCK, end = left < BLOCK - 8 ? BLOCK : 2 * BLOCK;
	uint64_t bits = (uint64_t)length * 8;

	for (size_t i = 0; i < length / BLOCK; i++)
		add_block(state, from + i * BLOCK);
	/* The rest, a bit, and the length. */
	memcpy(last, from + (length - left), left);
	last[left] = 0x80;
	for (unsigned i = 0; i < 8; i++)
		last[end - 1 - i] = (uint8_t)(bits >> 8 * i);
	for (size_t at = 0; at < end; at += BLOCK)
		add_block(state, last + at);
	for (unsigned i = 0; i < SHA1_SIZE; i++)
		digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
