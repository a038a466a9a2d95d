// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of a call, and each copy from and to user memory, is made to
 * fail, one after the other. The call returns the number of bytes moved, or the
 * reason if it moved none. The rest of the data stays where it was, a second
 * call moves it, and no reference to a page is leaked.
 */
#include "splice_fault.h"
#include "splice_notify.h"

#define DATA 1

/* The length of each transfer: whole sectors, but not whole pages. */
#define LEN 59904

/* More slots than the kernel's arrays on the stack have. */
#define LARGE 64

/* More ranges than the kernel's array on the stack has. */
#define SEGMENTS 39
#define RANGE (LEN / SEGMENTS)

/* The maximum number of iterations, for a bug that makes a loop endless. */
#define MAX_CALLS 100

enum call {
	FROM_END,		/* splice() from an end into a pipe */
	TO_END,			/* splice() from a pipe to an end */
	TEE,
	VMSPLICE_IN,
	VMSPLICE_OUT,
	SENDFILE,
	COPY_FILE_RANGE,
	RESIZE,			/* F_SETPIPE_SZ of a pipe with data in it */
};

/* The effect that injected faults must have. */
enum outcome {
	NOTHING,		/* the call has no point that can fail */
	UNSEEN,			/* points may fail, but the call never does */
	SOMETHING,		/* at least one point fails, with or without an error */
	AN_ERROR,		/* a point fails with an error of the call */
};

struct scene {
	const struct _fixture_variant_fault *v;
	struct end from;
	struct end to;
	int in;			/* descriptors that are passed to the call */
	int out;
	int drain;		/* descriptor at which the data arrives */
	int memfd;		/* source of the data, or -1 */
	char *mem;		/* user memory for vmsplice() */
	loff_t off;
	struct iovec iov[SEGMENTS];
	char *buf;
};

FIXTURE(fault) {
	struct scene scene;
	char value[16];		/* fs.splice_zerocopy before the test */
};

FIXTURE_VARIANT(fault) {
	enum call call;
	enum end_kind kind;
	enum outcome outcome;
	bool direct;		/* O_DIRECT */
	bool large;		/* pipes of LARGE slots */
	bool offset;		/* the caller passes an offset */
	bool fresh;		/* memory that was never touched */
	bool notify;		/* vmsplice() uses SPLICE_F_NOTIFY */
	bool copies;		/* fs.splice_zerocopy is 0 */
};

FIXTURE_VARIANT_ADD(fault, from_ext4) {
	.call = FROM_END, .kind = END_EXT4, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, from_ext4_large) {
	.call = FROM_END, .kind = END_EXT4, .large = true, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, from_ext4_direct) {
	.call = FROM_END, .kind = END_EXT4, .direct = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, from_ext4_direct_large) {
	.call = FROM_END, .kind = END_EXT4, .direct = true, .large = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, from_tmpfs) {
	.call = FROM_END, .kind = END_TMPFS, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, from_tmpfs_offset) {
	.call = FROM_END, .kind = END_TMPFS, .offset = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, from_tcp) {
	/* TCP may still send an acknowledgment. */
	.call = FROM_END, .kind = END_TCP, .outcome = UNSEEN,
};

FIXTURE_VARIANT_ADD(fault, from_unix) {
	.call = FROM_END, .kind = END_UNIX, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, from_zero) {
	.call = FROM_END, .kind = END_ZERO, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, from_zero_large) {
	.call = FROM_END, .kind = END_ZERO, .large = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_ext4) {
	.call = TO_END, .kind = END_EXT4, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, to_ext4_large) {
	.call = TO_END, .kind = END_EXT4, .large = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_ext4_direct) {
	.call = TO_END, .kind = END_EXT4, .direct = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tmpfs) {
	.call = TO_END, .kind = END_TMPFS, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tmpfs_large) {
	.call = TO_END, .kind = END_TMPFS, .large = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tmpfs_offset) {
	.call = TO_END, .kind = END_TMPFS, .offset = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_pipe) {
	.call = TO_END, .kind = END_PIPE, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, to_fifo) {
	.call = TO_END, .kind = END_FIFO, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, to_tcp) {
	.call = TO_END, .kind = END_TCP, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, to_tcp_notify) {
	.call = TO_END, .kind = END_TCP, .notify = true, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, to_unix) {
	.call = TO_END, .kind = END_UNIX, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_unix_large) {
	.call = TO_END, .kind = END_UNIX, .large = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_null) {
	.call = TO_END, .kind = END_NULL, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, tee) {
	.call = TEE, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, tee_large) {
	.call = TEE, .large = true, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, vmsplice_in) {
	.call = VMSPLICE_IN, .large = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, vmsplice_in_fresh) {
	.call = VMSPLICE_IN, .large = true, .fresh = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, vmsplice_in_notify) {
	.call = VMSPLICE_IN, .large = true, .notify = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, vmsplice_out) {
	.call = VMSPLICE_OUT, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, vmsplice_out_fresh) {
	.call = VMSPLICE_OUT, .large = true, .fresh = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_ext4) {
	.call = SENDFILE, .kind = END_EXT4, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_tmpfs) {
	.call = SENDFILE, .kind = END_TMPFS, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_tmpfs_offset) {
	.call = SENDFILE, .kind = END_TMPFS, .offset = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_pipe) {
	.call = SENDFILE, .kind = END_PIPE, .outcome = NOTHING,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_tcp) {
	.call = SENDFILE, .kind = END_TCP, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_unix) {
	.call = SENDFILE, .kind = END_UNIX, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_null) {
	.call = SENDFILE, .kind = END_NULL, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, copy_file_range_ext4) {
	.call = COPY_FILE_RANGE, .kind = END_EXT4, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, copy_file_range_tmpfs) {
	.call = COPY_FILE_RANGE, .kind = END_TMPFS, .outcome = AN_ERROR,
};

/* With copies: data that does not fit into the copies stays where it was. */
FIXTURE_VARIANT_ADD(fault, from_tmpfs_copies) {
	/* Without memory for a copy, the pipe gets a reference. */
	.call = FROM_END, .kind = END_TMPFS, .copies = true,
	.outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, to_ext4_copies) {
	.call = TO_END, .kind = END_EXT4, .copies = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tmpfs_copies) {
	.call = TO_END, .kind = END_TMPFS, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tmpfs_large_copies) {
	.call = TO_END, .kind = END_TMPFS, .large = true, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_null_copies) {
	.call = TO_END, .kind = END_NULL, .copies = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_null_large_copies) {
	.call = TO_END, .kind = END_NULL, .large = true, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, to_tcp_copies) {
	.call = TO_END, .kind = END_TCP, .copies = true, .outcome = SOMETHING,
};

FIXTURE_VARIANT_ADD(fault, to_unix_copies) {
	.call = TO_END, .kind = END_UNIX, .copies = true, .outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_tmpfs_copies) {
	.call = SENDFILE, .kind = END_TMPFS, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_null_copies) {
	.call = SENDFILE, .kind = END_NULL, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, sendfile_to_unix_copies) {
	.call = SENDFILE, .kind = END_UNIX, .copies = true,
	.outcome = AN_ERROR,
};

FIXTURE_VARIANT_ADD(fault, resize) {
	.call = RESIZE, .large = true, .outcome = AN_ERROR,
};

FIXTURE_SETUP(fault)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	if (variant->notify) {
		int p[2];

		make_pipe(_metadata, p);
		if (xvmsplice(p[1], NULL, 0, SPLICE_F_NOTIFY) == -EINVAL)
			SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
		close(p[0]);
		close(p[1]);
	}
	if (variant->copies) {
		if (read_text(ZEROCOPY, self->value, sizeof(self->value)) <= 0)
			SKIP(return, "this kernel has no fs.splice_zerocopy");
		ASSERT_EQ(1, write_text(ZEROCOPY, "0"));
	}
	self->scene.v = variant;
	self->scene.buf = malloc(LEN);
	ASSERT_NE(NULL, self->scene.buf);
}

FIXTURE_TEARDOWN(fault)
{
	if (self->value[0])
		write_text(ZEROCOPY, self->value);
	free(self->scene.buf);
}

/* The data is zeroes and not the pattern. */
static bool is_zeros(const struct _fixture_variant_fault *v)
{
	return (v->call == FROM_END && v->kind == END_ZERO) ||
	       (v->call == VMSPLICE_IN && v->fresh);
}

/* The source has no more data. */
static bool has_end(const struct _fixture_variant_fault *v)
{
	return !is_zeros(v) && v->call != VMSPLICE_IN &&
	       v->call != TEE && v->call != RESIZE;
}

/* A pipe without a writer that contains all of the data by reference. */
static int full_source(struct __test_metadata *_metadata, struct scene *s)
{
	int p[2];

	s->memfd = make_memfd(_metadata, LEN, DATA);
	make_pipe(_metadata, p);
	if (s->v->large && s->v->call != RESIZE)
		ASSERT_LT(0, fcntl(p[1], F_SETPIPE_SZ, LARGE * page_size()));
	if (s->v->notify) {
		void *mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED, s->memfd, 0);

		ASSERT_NE(MAP_FAILED, mem);
		ASSERT_EQ(LEN, xvmsplice1(p[1], mem, LEN, SPLICE_F_NOTIFY));
		ASSERT_EQ(0, munmap(mem, LEN));
	} else {
		ASSERT_EQ(LEN, splice_full(s->memfd, p[1], LEN));
	}
	close(p[1]);
	return p[0];
}

static void empty_sink(struct __test_metadata *_metadata, struct scene *s)
{
	int p[2];

	make_pipe(_metadata, p);
	if (s->v->large)
		ASSERT_LT(0, fcntl(p[1], F_SETPIPE_SZ, LARGE * page_size()));
	s->drain = p[0];
	s->out = p[1];
}

static void open_from(struct __test_metadata *_metadata, struct scene *s)
{
	if (s->v->kind == END_TMPFS) {
		s->memfd = make_memfd(_metadata, LEN, DATA);
		s->in = dup(s->memfd);
		return;
	}
	end_open(_metadata, s->v->kind, true, &s->from);
	s->in = s->from.fd;
	if (s->from.peer < 0)
		return;
	ASSERT_EQ(LEN, write_pattern(s->from.peer, LEN, DATA, 0));
	if (s->v->kind == END_EXT4) {
		/* Drop the page cache, so that reading has to allocate. */
		ASSERT_EQ(0, fsync(s->from.peer));
		ASSERT_EQ(0, posix_fadvise(s->from.peer, 0, 0,
					   POSIX_FADV_DONTNEED));
	}
	if (s->v->direct) {
		s->in = reopen(_metadata, s->from.fd, O_RDONLY | O_DIRECT);
		close(s->from.fd);
	}
	if (end_is_socket(s->v->kind))
		ASSERT_EQ(0, shutdown(s->from.peer, SHUT_WR));
	close(s->from.peer);
}

static void open_to(struct __test_metadata *_metadata, struct scene *s)
{
	end_open(_metadata, s->v->kind, false, &s->to);
	s->out = s->to.fd;
	s->drain = s->to.peer;
	if (s->v->direct) {
		s->out = reopen(_metadata, s->to.fd, O_WRONLY | O_DIRECT);
		close(s->to.fd);
	}
}

static void make_memory(struct __test_metadata *_metadata, struct scene *s)
{
	int i;

	if (s->v->call == VMSPLICE_IN && !s->v->fresh) {
		s->memfd = make_memfd(_metadata, LEN, DATA);
		s->mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED | MAP_POPULATE,
			      s->memfd, 0);
	} else {
		s->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS |
			      (s->v->fresh ? 0 : MAP_POPULATE), -1, 0);
	}
	ASSERT_NE(MAP_FAILED, s->mem);
	for (i = 0; i < SEGMENTS; i++) {
		s->iov[i].iov_base = s->mem + i * RANGE;
		s->iov[i].iov_len = RANGE;
	}
}

static void open_all(struct __test_metadata *_metadata, struct scene *s)
{
	s->in = -1;
	s->out = -1;
	s->drain = -1;
	s->memfd = -1;
	s->mem = NULL;
	s->off = 0;
	switch (s->v->call) {
	case FROM_END:
		open_from(_metadata, s);
		empty_sink(_metadata, s);
		break;
	case TO_END:
		s->in = full_source(_metadata, s);
		open_to(_metadata, s);
		break;
	case TEE:
		s->in = full_source(_metadata, s);
		empty_sink(_metadata, s);
		break;
	case VMSPLICE_IN:
		make_memory(_metadata, s);
		empty_sink(_metadata, s);
		break;
	case VMSPLICE_OUT:
		s->in = full_source(_metadata, s);
		make_memory(_metadata, s);
		break;
	case SENDFILE:
		s->memfd = make_memfd(_metadata, LEN, DATA);
		s->in = dup(s->memfd);
		open_to(_metadata, s);
		break;
	case COPY_FILE_RANGE:
		end_open(_metadata, s->v->kind, true, &s->from);
		ASSERT_EQ(LEN, write_pattern(s->from.peer, LEN, DATA, 0));
		close(s->from.peer);
		s->in = s->from.fd;
		open_to(_metadata, s);
		break;
	case RESIZE:
		s->in = full_source(_metadata, s);
		break;
	}
}

static void close_all(struct __test_metadata *_metadata, struct scene *s)
{
	if (s->in >= 0)
		close(s->in);
	if (s->out >= 0)
		close(s->out);
	if (s->drain >= 0)
		close(s->drain);
	if (s->mem)
		ASSERT_EQ(0, munmap(s->mem, LEN));
	if (s->memfd < 0)
		return;
	expect_unreferenced(_metadata, s->memfd);
	close(s->memfd);
}

/* The call. @done bytes were transferred by earlier calls. */
static ssize_t make_call(struct scene *s, ssize_t done)
{
	loff_t *off = s->v->offset ? &s->off : NULL;
	unsigned int flags = s->v->notify ? SPLICE_F_NOTIFY : 0;
	ssize_t len = LEN - done;
	int fd;

	switch (s->v->call) {
	case FROM_END:
		return xsplice(s->in, off, s->out, NULL, len, 0);
	case TO_END:
		return xsplice(s->in, NULL, s->out, off, len, 0);
	case TEE:
		return xtee(s->in, s->out, LEN, 0);
	case VMSPLICE_IN:
	case VMSPLICE_OUT:
		fd = s->v->call == VMSPLICE_IN ? s->out : s->in;
		/* The previous call stopped in the middle of a range. */
		if (done % RANGE)
			return xvmsplice1(fd, s->mem + done,
					  RANGE - done % RANGE, flags);
		return xvmsplice(fd, s->iov + done / RANGE,
				 SEGMENTS - done / RANGE, flags);
	case SENDFILE:
		return xsendfile(s->out, s->in, off, len);
	case COPY_FILE_RANGE:
		return xcopy_file_range(s->in, NULL, s->out, NULL, len, 0);
	case RESIZE:
		return or_errno(fcntl(s->in, F_SETPIPE_SZ, LARGE * page_size()));
	}
	return -EINVAL;
}

static ssize_t call_scene(void *scene)
{
	return make_call(scene, 0);
}

/* Reads the last @len bytes of the data; returns how many are correct. */
static ssize_t take(struct scene *s, ssize_t len, ssize_t done)
{
	char *at = s->buf;
	ssize_t ret = len;

	if (s->v->call == VMSPLICE_OUT)
		at = s->mem + done;
	else if (s->drain >= 0)
		ret = read_full(s->drain, at, len);
	else
		return len;
	if (ret <= 0)
		return ret;
	return is_zeros(s->v) ? match_byte(at, ret, 0) :
				match_pattern(at, ret, DATA, done);
}

/* Each call that moved data has a number, and its memory is released. */
static void check_notices(struct __test_metadata *_metadata, struct scene *s,
			  int moves)
{
	ASSERT_EQ(moves, issued(s->out));
	ASSERT_EQ(moves, released(s->out));
}

/* After any result of the call, further calls move the rest, and no more. */
static void finish(struct __test_metadata *_metadata, struct scene *s,
		   struct shot *shot)
{
	ssize_t done = 0, ret = shot->ret;
	int calls = 0, moves = 0;

	/*
	 * The data was moved before the copy of the new offset to user memory
	 * failed.
	 */
	if (ret == -EFAULT && s->v->offset && s->v->call != SENDFILE) {
		struct stat st;

		ASSERT_EQ(0, s->off);
		if (s->v->call == FROM_END) {
			ret = pipe_bytes(s->drain);
		} else {
			ASSERT_EQ(0, fstat(s->out, &st));
			ret = st.st_size;
		}
		s->off = ret;
	}

	while (true) {
		if (ret > 0) {
			ASSERT_GE(LEN - done, ret);
			ASSERT_EQ(ret, take(s, ret, done));
			done += ret;
			moves++;
		}
		if (done == LEN)
			break;
		ASSERT_LT(calls++, MAX_CALLS);
		ret = make_call(s, done);
		ASSERT_LT(0, ret) {
			TH_LOG("%zd of %d bytes are there: %s", done, LEN,
			       ret ? strerror(-ret) : "the end");
		}
	}
	if (has_end(s->v)) {
		s->off = LEN;
		ret = s->v->call == VMSPLICE_OUT ?
		      xread(s->in, s->buf, 1) :
		      make_call(s, LEN - 1);
		ASSERT_EQ(0, ret);
	}
	if (s->v->notify && s->v->call == VMSPLICE_IN)
		check_notices(_metadata, s, moves);
	if (s->drain < 0)
		return;
	if (end_is_socket(s->v->kind) && s->v->call != FROM_END)
		ASSERT_EQ(0, shutdown(s->out, SHUT_WR));
	close(s->out);
	s->out = -1;
	ASSERT_EQ(0, xread(s->drain, s->buf, 1));
}

/* tee() keeps the data in the source, and duplicates all of it or a part. */
static void finish_tee(struct __test_metadata *_metadata, struct scene *s,
		       struct shot *shot)
{
	if (shot->ret > 0)
		ASSERT_EQ(shot->ret, take(s, shot->ret, 0));
	ASSERT_EQ(0, pipe_bytes(s->drain));
	ASSERT_EQ(LEN, make_call(s, 0));
	ASSERT_EQ(LEN, take(s, LEN, 0));
	ASSERT_EQ(LEN, read_pattern(s->in, LEN + 1, DATA, 0));
}

/* A pipe has the size that the call returned, and its data is unchanged. */
static void finish_resize(struct __test_metadata *_metadata, struct scene *s,
			  struct shot *shot)
{
	ssize_t large = LARGE * page_size();

	ASSERT_EQ(shot->ret > 0 ? large : 16 * page_size(),
		  pipe_capacity(s->in));
	ASSERT_EQ(large, make_call(s, 0));
	ASSERT_EQ(LEN, read_pattern(s->in, LEN + 1, DATA, 0));
}

/* Whether the call may return this after an injected fault. */
static bool is_expected(const struct _fixture_variant_fault *v, ssize_t ret)
{
	switch (-ret) {
	case ENOMEM:
		return true;
	case EFAULT:
		return v->offset || v->call == VMSPLICE_IN ||
		       v->call == VMSPLICE_OUT;
	case ENOBUFS:
		return v->kind == END_UNIX;
	case 0:
		/* An AF_UNIX socket returns 0 here, as if it had no data. */
		return v->call == FROM_END && v->kind == END_UNIX;
	}
	return ret > 0;
}

static void finish_any(struct __test_metadata *_metadata, struct scene *s,
		       struct shot *shot)
{
	if (s->v->call == TEE)
		finish_tee(_metadata, s, shot);
	else if (s->v->call == RESIZE)
		finish_resize(_metadata, s, shot);
	else
		finish(_metadata, s, shot);
}

TEST_F_TIMEOUT(fault, every_point, 900)
{
	int points = 0, errors = 0, misses = 0;
	struct scene *s = &self->scene;
	struct shot shot = { .call = call_scene, .arg = s, .n = 0 };

	/*
	 * The first run injects no fault. The loop ends after three runs
	 * without a fault.
	 */
	while (misses < 3) {
		open_all(_metadata, s);
		fire(_metadata, &shot);
		if (shot.fired) {
			points++;
			if (shot.ret < 0)
				errors++;
			EXPECT_TRUE(is_expected(s->v, shot.ret)) {
				TH_LOG("it returned %zd", shot.ret);
			}
		} else {
			if (shot.n)
				misses++;
			EXPECT_LT(0, shot.ret);
		}
		finish_any(_metadata, s, &shot);
		close_all(_metadata, s);
		ASSERT_NE(KSFT_FAIL, _metadata->exit_code) {
			TH_LOG("with point %d failing", shot.n);
		}
		if (shot.fired || !shot.n) {
			misses = 0;
			shot.n++;
		}
		ASSERT_GT(MAX_POINTS, shot.n);
	}
	TH_LOG("%d points, %d of them an error of the call", points, errors);
	if (s->v->outcome != UNSEEN)
		EXPECT_EQ(s->v->outcome == NOTHING, points == 0);
	if (s->v->outcome == UNSEEN)
		EXPECT_EQ(0, errors);
	if (s->v->outcome == AN_ERROR)
		EXPECT_LT(0, errors);
}

/* A call that falls back to another way fails if that fails, too. */
TEST_F_TIMEOUT(fault, all_at_once, 120)
{
	struct scene *s = &self->scene;
	struct shot shot = { .call = call_scene, .arg = s, .n = ALL };
	bool sink = s->v->call == TO_END || s->v->call == SENDFILE;

	if (sink && s->v->kind == END_TCP)
		SKIP(return, "TCP waits for memory for as long as it takes");
	open_all(_metadata, s);
	ASSERT_EQ(NULL, set_probability("100"));
	fire(_metadata, &shot);
	ASSERT_EQ(NULL, set_probability("0"));
	TH_LOG("it returned %zd", shot.ret);
	EXPECT_TRUE(is_expected(s->v, shot.ret));
	if (s->v->outcome == NOTHING || s->v->outcome == UNSEEN)
		EXPECT_LT(0, shot.ret);
	finish_any(_metadata, s, &shot);
	close_all(_metadata, s);
}

/*
 * A pipe that is enlarged while splice() waits for data needs more memory than
 * splice() had allocated. The received data stays in the source.
 */
FIXTURE(waiting) {
	int file;
};

FIXTURE_SETUP(waiting)
{
	const char *missing = end_missing(END_TMPFS);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
}

FIXTURE_TEARDOWN(waiting)
{
}

TEST_F_TIMEOUT(waiting, enlarged, 300)
{
	int p[2], after_wait = 0;
	struct job job;
	struct shot shot = { .call = call_job, .arg = &job, .n = 0 };
	bool waited;

	do {
		ASSERT_EQ(0, ftruncate(self->file, 0));
		ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
		make_pipe(_metadata, p);
		job = job_splice(p[0], self->file, LEN);
		fire_start(_metadata, &shot);
		while (!__atomic_load_n(&shot.done, __ATOMIC_SEQ_CST) &&
		       !task_blocked(__atomic_load_n(&job.tid, __ATOMIC_SEQ_CST),
				     SYS_splice))
			usleep(1000);
		waited = !__atomic_load_n(&shot.done, __ATOMIC_SEQ_CST);
		/* Allocations before the wait are a point of their own. */
		if (!waited)
			EXPECT_EQ(-ENOMEM, shot.ret);
		ASSERT_LT(0, fcntl(p[1], F_SETPIPE_SZ, LARGE * page_size()));
		ASSERT_EQ(LEN, write_pattern(p[1], LEN, DATA, 0));
		fire_end(_metadata, &shot);

		if (waited && shot.ret == -ENOMEM) {
			ASSERT_TRUE(shot.fired);
			ASSERT_EQ(LEN, pipe_bytes(p[0]));
			after_wait++;
		}
		if (shot.ret != -ENOMEM)
			ASSERT_LT(0, shot.ret);
		close(p[1]);
		if (shot.ret < LEN)
			ASSERT_LE(0, splice_full(p[0], self->file, LEN));
		ASSERT_EQ(0, pipe_bytes(p[0]));
		close(p[0]);
		ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
		ASSERT_EQ(LEN, read_pattern(self->file, LEN + 1, DATA, 0));
		ASSERT_GT(MAX_POINTS, ++shot.n);
	} while (shot.n == 1 || shot.fired);
	EXPECT_LT(0, after_wait);
}

/* trace_pipe allocates arrays for a large pipe. */
FIXTURE(trace) {
	char dir[PATH_MAX];
	char instance[PATH_MAX + 40];
	int marker;
	int fd;
	int p[2];
};

FIXTURE_SETUP(trace)
{
	char path[PATH_MAX + 100];

	snprintf(self->dir, sizeof(self->dir), "/tmp/splice.XXXXXX");
	if (!private_mounts() || !mkdtemp(self->dir) ||
	    mount("splice", self->dir, "tracefs", 0, NULL))
		SKIP(return, "may not mount tracefs: %s (CONFIG_FTRACE)",
		     strerror(errno));
	snprintf(self->instance, sizeof(self->instance),
		 "%s/instances/splice.%d", self->dir, getpid());
	ASSERT_EQ(0, mkdir(self->instance, 0700));
	snprintf(path, sizeof(path), "%s/trace_marker", self->instance);
	self->marker = open(path, O_WRONLY);
	ASSERT_LE(0, self->marker);
	snprintf(path, sizeof(path), "%s/trace_pipe", self->instance);
	self->fd = open(path, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, self->fd);
	make_pipe(_metadata, self->p);
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, LARGE * page_size()));
}

FIXTURE_TEARDOWN(trace)
{
	if (!self->instance[0])
		return;
	close(self->fd);
	close(self->marker);
	rmdir(self->instance);
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

TEST_F_TIMEOUT(trace, every_point, 300)
{
	struct job job = job_splice(self->fd, self->p[1], 65536);
	struct shot shot = { .call = call_job, .arg = &job, .n = 0 };
	char buf[65536], text[40], *found;
	int errors = 0, again = 0;
	ssize_t len;

	/* Let page_owner allocate its record of the stack in the first call. */
	ASSERT_LT(0, dprintf(self->marker, "before\n"));
	ASSERT_LT(0, job_call(&job));
	ASSERT_LT(0, xread(self->p[0], buf, sizeof(buf)));

	do {
		snprintf(text, sizeof(text), "splice marker %d.", shot.n);
		ASSERT_LT(0, dprintf(self->marker, "%s\n", text));
		fire(_metadata, &shot);
		/*
		 * If no page for the text can be allocated, trace_pipe returns
		 * no text.
		 */
		ASSERT_TRUE(shot.ret >= 0 || shot.ret == -ENOMEM) {
			TH_LOG("it returned %zd", shot.ret);
		}
		ASSERT_TRUE(shot.ret > 0 || shot.fired);
		if (shot.ret < 0)
			errors++;
		if (shot.ret <= 0)
			ASSERT_LT(0, job_call(&job));
		len = xread(self->p[0], buf, sizeof(buf) - 1);
		ASSERT_LT(0, len);
		buf[len] = 0;
		found = strstr(buf, text);
		ASSERT_NE(NULL, found) {
			TH_LOG("no \"%s\" in \"%s\"", text, buf);
		}
		EXPECT_EQ(NULL, strstr(found + 1, "splice marker"));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		/*
		 * The allocation that failed was not one of the call, but for
		 * example of stack depot, which allocates once for each stack
		 * that it has not seen. So this point was not tried yet.
		 */
		if (shot.fired && shot.ret > 0 && again++ < 3)
			continue;
		again = 0;
		ASSERT_GT(MAX_POINTS, ++shot.n);
	} while (shot.n == 1 || shot.fired);
	/* Two arrays. */
	EXPECT_EQ(2, errors);
}

/*
 * Returns how many pages exist that splice() allocated as read buffers. Other
 * allocations of a read, such as slabs, have no alloc_pages_bulk() in their
 * stack.
 */
static ssize_t held_pages(struct __test_metadata *_metadata)
{
	FILE *f = fopen(DEBUGFS "page_owner_stacks/show_stacks", "r");
	bool bulk = false, ours = false;
	char line[512];
	ssize_t sum = 0;
	int n;

	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "alloc_pages_bulk"))
			bulk = true;
		if (strstr(line, "copy_splice_read") ||
		    strstr(line, "FreshPages"))
			ours = true;
		if (sscanf(line, "nr_base_pages: %d", &n) == 1 && bulk && ours)
			sum += n;
		if (line[0] == '\n') {
			bulk = false;
			ours = false;
		}
	}
	fclose(f);
	return sum;
}

FIXTURE(pages) {
	int zero;
	int p[2];
};

FIXTURE_SETUP(pages)
{
	self->zero = open("/dev/zero", O_RDONLY);
	ASSERT_LE(0, self->zero);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(pages)
{
}

/* After all tests above, no such page is left. */
TEST_F_TIMEOUT(pages, read_into, 300)
{
	ssize_t before, size = page_size();

	if (access(DEBUGFS "page_owner_stacks", X_OK))
		SKIP(return, "no page_owner=on on the kernel's command line");
	before = held_pages(_metadata);
	ASSERT_EQ(5 * size, splice_full(self->zero, self->p[1], 5 * size));
	EXPECT_EQ(before + 5, held_pages(_metadata));
	EXPECT_EQ(0, before);
}

int main(int argc, char **argv)
{
	return fault_main(argc, argv);
}
