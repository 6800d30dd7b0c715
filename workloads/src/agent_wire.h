/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol between the host and the guest agent.
 *
 * A frame is a header of 20 bytes and a payload. All integers are little endian:
 *
 *	u32 magic, u16 version, u16 op, u32 id, u32 length of the payload, u32 crc of these 16 bytes
 *
 * The header is the same in all versions, so that a version mismatch can be reported.
 * The reply to a request is a frame with its id and op | OP_REPLY, whose payload begins with an
 * errno (i32, 0: success). Replies arrive in any order. Stream frames are sent unasked; they carry
 * the id of the request that started the stream.
 *
 * In payloads: "str" is u32 length, the bytes, one NUL; "bytes" is u32 length and the bytes.
 */
#ifndef AGENT_WIRE_H
#define AGENT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC	 0x41544d44 /* "DMTA" */
#define WIRE_VERSION	 1
#define WIRE_HEADER	 20
#define WIRE_MAX_PAYLOAD (16u << 20)

enum wire_op {
	OP_HELLO = 1, /* u64 nonce -> see hello() */
	OP_ERROR = 2, /* from the agent: str; the session is over */
	OP_PING = 3,  /* -> */
	OP_CLOCK = 4, /* -> u64 CLOCK_MONOTONIC ns */
	OP_BATCH = 5, /* u8 stop_on_error, u32 count, file operations -> results; agent_files.c */
	OP_SPAWN = 6, /* u32 argc, str..., u32 envc, str..., str cwd -> u32 pid */
	OP_STDIN = 7, /* u32 process, bytes -> (replies when all bytes are in the pipe) */
	OP_STDIN_CLOSE = 8, /* u32 process -> */
	OP_KILL = 9,	    /* u32 process, u32 signal -> */
	OP_FOLLOW = 10,	    /* str path -> */
	OP_UNFOLLOW = 11,   /* u32 stream -> */
	OP_MOUNT = 12,	    /* str source, str target, str type, u64 flags, str data -> */
	OP_SWAPON = 13,	    /* str path, u32 flags -> */
	OP_RESEED = 14,	    /* bytes -> */
	OP_SLEEP = 15,	    /* u64 CLOCK_MONOTONIC ns -> (replies at that time) */

	OP_STREAM = 32,	    /* from the agent: u8 which, bytes up to the end of the frame */
	OP_STREAM_END = 33, /* from the agent: u8 which, i32 errno */
	OP_EXIT = 34,	    /* from the agent: i32 code or -1, i32 signal or -1 */
	OP_LOST = 35,	    /* from the agent: u64 bytes lost since the last OP_LOST */

	OP_REPLY = 0x8000,
};

enum wire_stream { STREAM_FILE = 0, STREAM_STDOUT = 1, STREAM_STDERR = 2 };

enum wire_file_op {
	FILE_READ = 0,
	FILE_WRITE = 1,
	FILE_LIST = 2,
	FILE_WALK = 3,
	FILE_MKDIR = 4,
	FILE_RMDIR = 5,
	FILE_UNLINK = 6,
	FILE_STAT = 7,
};

/* A growing buffer. When memory runs out, it becomes "failed" and stays so. */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	bool failed;
};

void buf_free(struct buf *b);
uint8_t *buf_room(struct buf *b,
		  size_t want); /* returns room for at least want bytes after len, or NULL */
void buf_put(struct buf *b, const void *data, size_t len);
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_i32(struct buf *b, int32_t v);
void buf_str(struct buf *b, const char *s);
void buf_set_u32(struct buf *b, size_t at, uint32_t v);

/* Reads a payload. Reading past its end makes it "bad", and every later value 0 or "". */
struct reader {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

uint8_t read_u8(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
const char *read_str(struct reader *r); /* points into the payload; never NULL */
const uint8_t *read_bytes(struct reader *r, size_t *len);

struct header {
	uint16_t version;
	uint16_t op;
	uint32_t id;
	uint32_t length;
};

/* A frame is built in a single buffer, header first, and sent with a single write. */
void frame_begin(struct buf *b);
void frame_end(struct buf *b, uint16_t op, uint32_t id);
bool header_parse(const uint8_t *data, struct header *h);

#endif
