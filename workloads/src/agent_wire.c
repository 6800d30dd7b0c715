// SPDX-License-Identifier: GPL-2.0
/* Buffers, payload encoding and frame headers of the agent's protocol. */
#include "agent_wire.h"

#include <stdlib.h>
#include <string.h>

void buf_free(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

uint8_t *buf_room(struct buf *b, size_t want)
{
	size_t cap = b->cap ? b->cap : 256;
	uint8_t *data;

	if (b->failed)
		return NULL;
	while (cap - b->len < want)
		cap *= 2;
	if (cap != b->cap) {
		data = realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	return b->data + b->len;
}

void buf_put(struct buf *b, const void *data, size_t len)
{
	uint8_t *to = buf_room(b, len);

	if (!to)
		return;
	if (len)
		memcpy(to, data, len);
	b->len += len;
}

static void store(uint8_t *to, uint64_t v, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t load(const uint8_t *from, size_t len)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		v |= (uint64_t)from[i] << (8 * i);
	return v;
}

static void buf_int(struct buf *b, uint64_t v, size_t len)
{
	uint8_t bytes[8];

	store(bytes, v, len);
	buf_put(b, bytes, len);
}

void buf_u8(struct buf *b, uint8_t v)
{
	buf_int(b, v, 1);
}

void buf_u16(struct buf *b, uint16_t v)
{
	buf_int(b, v, 2);
}

void buf_u32(struct buf *b, uint32_t v)
{
	buf_int(b, v, 4);
}

void buf_u64(struct buf *b, uint64_t v)
{
	buf_int(b, v, 8);
}

void buf_i32(struct buf *b, int32_t v)
{
	buf_int(b, (uint32_t)v, 4);
}

void buf_str(struct buf *b, const char *s)
{
	size_t len = strlen(s);

	buf_u32(b, (uint32_t)len);
	buf_put(b, s, len + 1);
}

void buf_set_u32(struct buf *b, size_t at, uint32_t v)
{
	if (!b->failed)
		store(b->data + at, v, 4);
}

static const uint8_t *take(struct reader *r, size_t len)
{
	const uint8_t *at = r->at;

	if (r->bad || (size_t)(r->end - r->at) < len) {
		r->bad = true;
		return NULL;
	}
	r->at += len;
	return at;
}

static uint64_t read_int(struct reader *r, size_t len)
{
	const uint8_t *at = take(r, len);

	return at ? load(at, len) : 0;
}

uint8_t read_u8(struct reader *r)
{
	return (uint8_t)read_int(r, 1);
}

uint32_t read_u32(struct reader *r)
{
	return (uint32_t)read_int(r, 4);
}

uint64_t read_u64(struct reader *r)
{
	return read_int(r, 8);
}

const uint8_t *read_bytes(struct reader *r, size_t *len)
{
	const uint8_t *at;

	*len = read_u32(r);
	at = take(r, *len);
	if (!at)
		*len = 0;
	return at;
}

const char *read_str(struct reader *r)
{
	size_t len = read_u32(r);
	const uint8_t *at = take(r, len + 1);

	/* With a NUL inside, the string would silently name another file. */
	if (!at || memchr(at, 0, len + 1) != at + len) {
		r->bad = true;
		return "";
	}
	return (const char *)at;
}

/* CRC-32 as in zlib; headers are too short for a table to pay off. */
static uint32_t crc32(const uint8_t *data, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

void frame_begin(struct buf *b)
{
	static const uint8_t blank[WIRE_HEADER];

	b->len = 0;
	buf_put(b, blank, sizeof(blank));
}

void frame_end(struct buf *b, uint16_t op, uint32_t id)
{
	uint8_t *h = b->data;

	if (b->failed)
		return;
	store(h, WIRE_MAGIC, 4);
	store(h + 4, WIRE_VERSION, 2);
	store(h + 6, op, 2);
	store(h + 8, id, 4);
	store(h + 12, b->len - WIRE_HEADER, 4);
	store(h + 16, crc32(h, 16), 4);
}

bool header_parse(const uint8_t *data, struct header *h)
{
	if (load(data, 4) != WIRE_MAGIC || load(data + 16, 4) != crc32(data, 16))
		return false;
	h->version = (uint16_t)load(data + 4, 2);
	h->op = (uint16_t)load(data + 6, 2);
	h->id = (uint32_t)load(data + 8, 4);
	h->length = (uint32_t)load(data + 12, 4);
	return true;
}
