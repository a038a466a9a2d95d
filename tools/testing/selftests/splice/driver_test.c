// SPDX-License-Identifier: GPL-2.0
/*
 * The sample driver for splice: /dev/splice-source gives pages of its own,
 * which it reuses when their last reader has released them, and
 * /dev/splice-sink drops all data.
 */
#include "device_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

#define SAMPLE_MODULE	"splice_sample"
#define SOURCE		"splice-source"
#define SINK		"splice-sink"

/* The driver in Documentation/filesystems/splice-drivers.rst. */
#define FIFO_MODULE	"splice_fifo"
#define FIFO		"splice-fifo"
#define FIFO_BUFFERS	64

#define FIFO_EVENTS (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM)

/* The total size of all pages of the source. */
#define SOURCE_PAGE	4096
#define SOURCE_PAGES	32
#define SOURCE_SIZE	(SOURCE_PAGES * SOURCE_PAGE)

/* The data of the source repeats after this many bytes. */
#define PERIOD 251

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1

/* Returns how many of the @len bytes at @buf are the source's from @pos on. */
static ssize_t match_source(const char *buf, ssize_t len, loff_t pos)
{
	ssize_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != (char)((pos + i) % PERIOD))
			break;
	return i;
}

/* Like read_pattern(), for the data of the source. */
static ssize_t read_source(int fd, ssize_t len, loff_t pos)
{
	char *buf = malloc(len);
	ssize_t ret = -ENOMEM;

	if (buf) {
		ret = read_full(fd, buf, len);
		if (ret > 0)
			ret = match_source(buf, ret, pos);
		free(buf);
	}
	return ret;
}

static ssize_t source_counter(struct __test_metadata *_metadata,
			      const char *name)
{
	ssize_t value = node_counter(SOURCE, name);

	ASSERT_LE(0, value) {
		TH_LOG("%s: %s", name, strerror(-value));
	}
	return value;
}

FIXTURE(source) {
	int fd;
	int sink;
	int p[2];		/* a slot for each page of the source */
	int q[2];		/* the same */
};

FIXTURE_SETUP(source)
{
	if (!have_node(SOURCE, SAMPLE_MODULE))
		SKIP(return, "no /dev/" SOURCE " (module " SAMPLE_MODULE ")");
	have_counters();
	self->fd = open_node(_metadata, SOURCE, O_RDONLY);
	self->sink = open_node(_metadata, SINK, O_WRONLY);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 64 * page_size()));
	ASSERT_LT(0, fcntl(self->q[1], F_SETPIPE_SZ, 64 * page_size()));
}

FIXTURE_TEARDOWN(source)
{
}

/* Moves all pages of the source to the first pipe. */
static void take_all(struct __test_metadata *_metadata,
		     struct _test_data_source *self)
{
	ssize_t sum = 0, ret;

	for (; (ret = xsplice(self->fd, NULL, self->p[1], NULL, SOURCE_SIZE,
			      SPLICE_F_NONBLOCK)) > 0; sum += ret)
		;
	ASSERT_EQ(-EAGAIN, ret);
	ASSERT_EQ(SOURCE_SIZE, sum);
}

TEST_F(source, sizes)
{
	static const ssize_t sizes[] = { 1, 2, 100, 4095, 4096, 4097, 65536 };
	loff_t pos = 0;
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); pos += sizes[i++]) {
		ASSERT_EQ(sizes[i], splice_full(self->fd, self->p[1],
						sizes[i]));
		EXPECT_EQ(sizes[i], read_source(self->p[0], sizes[i], pos));
	}
}

/* Each open file description has a stream of its own; a dup() shares it. */
TEST_F(source, positions)
{
	int other = open_node(_metadata, SOURCE, O_RDONLY);
	int same = dup(self->fd);

	ASSERT_EQ(SOME, splice_full(self->fd, self->p[1], SOME));
	ASSERT_EQ(SOME, splice_full(other, self->p[1], SOME));
	ASSERT_EQ(SOME, splice_full(same, self->p[1], SOME));
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, 0));
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, 0));
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, SOME));
}

/* All pages are in use: a request for more waits until one is released. */
TEST_F(source, runs_out)
{
	struct job job = job_splice(self->fd, self->p[1], SOURCE_PAGE);
	loff_t pos = SOURCE_SIZE;

	take_all(_metadata, self);
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
	set_nonblock(_metadata, self->fd, true);
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 1, 0));
	set_nonblock(_metadata, self->fd, false);
	/*
	 * Use another pipe: a splice() that waits holds the lock of its pipe.
	 */
	job.arg[2] = self->q[1];
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	kill_waiting(_metadata, job_fork_waiting(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	job_restart(_metadata, &job);
	EXPECT_EQ(SOURCE_PAGE, read_source(self->p[0], SOURCE_PAGE, 0));
	EXPECT_EQ(SOURCE_PAGE, job_finish(_metadata, &job));
	EXPECT_EQ(SOURCE_PAGE, read_source(self->q[0], SOURCE_PAGE, pos));
	EXPECT_EQ(SOURCE_SIZE - SOURCE_PAGE,
		  read_source(self->p[0], SOURCE_SIZE - SOURCE_PAGE,
			      SOURCE_PAGE));
}

/* The source reuses the same pages. */
TEST_F(source, recycles)
{
	ssize_t allocated, recycled, lost, sum;

	take_all(_metadata, self);
	ASSERT_EQ(SOURCE_SIZE, read_source(self->p[0], SOURCE_SIZE, 0));
	allocated = source_counter(_metadata, "pages.allocated");
	recycled = source_counter(_metadata, "pages.recycled");
	lost = source_counter(_metadata, "pages.lost");
	for (sum = SOURCE_SIZE; sum < 4 * SOURCE_SIZE; sum += SOURCE_PAGE) {
		ASSERT_EQ(SOURCE_PAGE, splice_full(self->fd, self->p[1],
						   SOURCE_PAGE));
		ASSERT_EQ(SOURCE_PAGE, read_source(self->p[0], SOURCE_PAGE,
						   sum));
	}
	EXPECT_EQ(allocated, source_counter(_metadata, "pages.allocated"));
	EXPECT_EQ(recycled + 3 * SOURCE_PAGES,
		  source_counter(_metadata, "pages.recycled"));
	EXPECT_EQ(lost, source_counter(_metadata, "pages.lost"));
}

/* A page that two pipes refer to is released when both have been read. */
TEST_F(source, tee)
{
	take_all(_metadata, self);
	ASSERT_EQ(SOURCE_SIZE, xtee(self->p[0], self->q[1], SOURCE_SIZE, 0));
	EXPECT_EQ(SOURCE_SIZE, read_source(self->p[0], SOURCE_SIZE, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(SOURCE_PAGE - 1, read_source(self->q[0], SOURCE_PAGE - 1, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(1, read_source(self->q[0], 1, SOURCE_PAGE - 1));
	EXPECT_EQ(1, xsplice(self->fd, NULL, self->p[1], NULL, 1,
			     SPLICE_F_NONBLOCK));
	EXPECT_EQ(1, read_source(self->p[0], 1, SOURCE_SIZE));
	EXPECT_EQ(SOURCE_SIZE - SOURCE_PAGE,
		  read_source(self->q[0], SOURCE_SIZE - SOURCE_PAGE,
			      SOURCE_PAGE));
}

/* write() to the pipe does not write to the source's pages. */
TEST_F(source, is_not_merged_with)
{
	ASSERT_EQ(100, xsplice(self->fd, NULL, self->p[1], NULL, 100, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, read_source(self->p[0], 100, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

/*
 * Pages in a pipe outlive the open file, and pages in a second pipe the first
 * one.
 */
TEST_F(source, closed)
{
	take_all(_metadata, self);
	close(self->fd);
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, 0));
	close(self->p[0]);
	close(self->p[1]);
	self->fd = open_node(_metadata, SOURCE, O_RDONLY);
	make_pipe(_metadata, self->p);
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 64 * page_size()));
	take_all(_metadata, self);
	EXPECT_EQ(SOURCE_SIZE, read_source(self->p[0], SOURCE_SIZE, 0));
}

/* A socket keeps the pages after they have left the pipe. */
FIXTURE(socket) {
	int fd;
	int sink;
	int p[2];
	struct end end;
};

FIXTURE_VARIANT(socket) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(socket, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(socket, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_SETUP(socket)
{
	if (!have_node(SOURCE, SAMPLE_MODULE))
		SKIP(return, "no /dev/" SOURCE " (module " SAMPLE_MODULE ")");
	have_counters();
	self->fd = open_node(_metadata, SOURCE, O_RDONLY);
	self->sink = open_node(_metadata, SINK, O_WRONLY);
	make_pipe(_metadata, self->p);
	end_open(_metadata, variant->kind, false, &self->end);
}

FIXTURE_TEARDOWN(socket)
{
}

/* The driver does not overwrite data in the socket when more data is taken. */
TEST_F_TIMEOUT(socket, keeps_pages, 60)
{
	ssize_t lost = source_counter(_metadata, "pages.lost");
	ssize_t sent = 0, limit = 1 << 20, ret = 1;
	int other = open_node(_metadata, SOURCE, O_RDONLY);

	set_nonblock(_metadata, self->end.fd, true);
	while (ret > 0 && sent < limit) {
		if (!pipe_bytes(self->p[0]))
			ASSERT_EQ(SOURCE_PAGE,
				  splice_full(self->fd, self->p[1],
					      SOURCE_PAGE));
		ret = xsplice(self->p[0], NULL, self->end.fd, NULL,
			      SOURCE_PAGE, SPLICE_F_NONBLOCK);
		if (ret > 0)
			sent += ret;
	}
	ASSERT_TRUE(ret > 0 || ret == -EAGAIN);
	EXPECT_LT(lost, source_counter(_metadata, "pages.lost"));

	/*
	 * Data from another position, so that an overwritten page would show.
	 */
	ASSERT_EQ(1, relay_bytes(other, self->sink, 1));
	ASSERT_EQ(4 * SOURCE_SIZE,
		  relay_bytes(other, self->sink, 4 * SOURCE_SIZE));
	EXPECT_EQ(sent, read_source(self->end.peer, sent, 0));
	ret = pipe_bytes(self->p[0]);
	if (ret)
		EXPECT_EQ(ret, read_source(self->p[0], ret, sent));
}

/*
 * The driver replaces pages that the socket keeps: the source still has them
 * all.
 */
TEST_F_TIMEOUT(socket, does_not_run_out, 60)
{
	struct relay out = {
		.in = self->fd, .out = self->end.fd, .len = 8 * SOURCE_SIZE,
	};

	relay_start(_metadata, &out);
	EXPECT_EQ(out.len, read_source(self->end.peer, out.len, 0));
	EXPECT_EQ(out.len, relay_finish(_metadata, &out));
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 64 * page_size()));
	EXPECT_EQ(SOURCE_SIZE, splice_full(self->fd, self->p[1], SOURCE_SIZE));
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
}

/*
 * Splicing to a file does not give the pages to the file, even with
 * SPLICE_F_MOVE.
 */
FIXTURE(files) {
	int fd;
	int sink;
	int file;
	int p[2];
};

FIXTURE_VARIANT(files) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(files, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(files, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(files)
{
	const char *missing = end_missing(variant->kind);

	if (!have_node(SOURCE, SAMPLE_MODULE))
		SKIP(return, "no /dev/" SOURCE " (module " SAMPLE_MODULE ")");
	if (missing)
		SKIP(return, "%s is not set", missing);
	have_counters();
	self->fd = open_node(_metadata, SOURCE, O_RDONLY);
	self->sink = open_node(_metadata, SINK, O_WRONLY);
	self->file = make_file(_metadata, end_dir(_metadata, variant->kind));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(files)
{
}

TEST_F(files, move)
{
	ssize_t lost = source_counter(_metadata, "pages.lost"), sum;

	for (sum = 0; sum < SOURCE_SIZE; sum += SOURCE_PAGE) {
		ASSERT_EQ(SOURCE_PAGE, splice_full(self->fd, self->p[1],
						   SOURCE_PAGE));
		ASSERT_EQ(SOURCE_PAGE, xsplice(self->p[0], NULL, self->file,
					       NULL, SOURCE_PAGE,
					       SPLICE_F_MOVE));
	}
	EXPECT_EQ(lost, source_counter(_metadata, "pages.lost"));
	/* Data from another position, into the same pages. */
	ASSERT_EQ(1, relay_bytes(self->fd, self->sink, 1));
	ASSERT_EQ(2 * SOURCE_SIZE,
		  relay_bytes(self->fd, self->sink, 2 * SOURCE_SIZE));
	ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
	EXPECT_EQ(SOURCE_SIZE, read_source(self->file, SOURCE_SIZE + 1, 0));
}

FIXTURE(sink) {
	int fd;
	int p[2];
};

FIXTURE_SETUP(sink)
{
	if (!have_node(SINK, SAMPLE_MODULE))
		SKIP(return, "no /dev/" SINK " (module " SAMPLE_MODULE ")");
	self->fd = open_node(_metadata, SINK, O_WRONLY);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(sink)
{
}

TEST_F(sink, takes_all)
{
	static const ssize_t sizes[] = { 1, 4095, 4096, 4097, 65536 };
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		ASSERT_EQ(sizes[i], write_pattern(self->p[1], sizes[i], DATA,
						  0));
		EXPECT_EQ(sizes[i], xsplice(self->p[0], NULL, self->fd, NULL,
					    sizes[i], 0));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
	}
	/* The sink takes no more than the requested length. */
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->fd, NULL, 100, 0));
	EXPECT_EQ(SOME - 100, read_pattern(self->p[0], SOME - 100, DATA, 100));
}

TEST_F(sink, sendfile)
{
	ssize_t len = 300000;
	int file = make_memfd(_metadata, len, DATA);

	EXPECT_EQ(len, xsendfile(self->fd, file, NULL, len + 1));
	EXPECT_EQ(len, lseek(file, 0, SEEK_CUR));
	expect_unreferenced(_metadata, file);
}

/* The sink drops data at once: the memory is free when the call returns. */
TEST_F(sink, notices)
{
	const char *missing = memory_missing(MEMORY_THP);
	struct memory m;

	if (missing)
		SKIP(return, "%s", missing);
	memory_map(_metadata, &m, MEMORY_THP);
	if (xnotify(self->p[1], m.p, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	ASSERT_EQ(SOME, xnotify(self->p[1], m.p, SOME));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->fd, NULL, 100, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME - 100, xsplice(self->p[0], NULL, self->fd, NULL, SOME,
				      0));
	EXPECT_EQ(1, released(self->p[1]));
	memory_unmap(&m);
	expect_no_pins(_metadata);
}

/* The sink waits for data in the pipe, and returns 0 at the end of file. */
TEST_F(sink, empty_pipe)
{
	struct job job = job_splice(self->p[0], self->fd, SOME);

	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->fd, NULL, SOME,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	close(self->p[1]);
	EXPECT_EQ(0, job_call(&job));
}

/* A writer that waits for room in the pipe is woken. */
TEST_F(sink, wakes_writer)
{
	ssize_t capacity = fill_pipe(_metadata, self->p[1], DATA);
	struct job writer = job_writer(self->p[1], "x", 1);

	job_start(_metadata, &writer);
	job_wait_blocked(&writer);
	EXPECT_EQ(capacity, xsplice(self->p[0], NULL, self->fd, NULL, capacity,
				    0));
	EXPECT_EQ(1, job_finish(_metadata, &writer));
}

/* Calls that fail move nothing. */
TEST_F(source, errors)
{
	int fd = open_node(_metadata, SOURCE, O_RDWR);
	int sink = open_node(_metadata, SINK, O_RDWR);
	int file = make_memfd(_metadata, SOME, DATA);
	int *p = self->p, *q = self->q;
	loff_t off = 0;
	char c = 0;

	ASSERT_EQ(SOME, write_pattern(p[1], SOME, DATA, 0));
	/* The source can only be spliced from, the sink only to. */
	EXPECT_EQ(-EINVAL, xsplice(p[0], NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsendfile(fd, file, NULL, SOME));
	EXPECT_EQ(-EINVAL, xsplice(sink, NULL, q[1], NULL, SOME, 0));
	EXPECT_EQ(-EBADF, xsplice(p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(-EBADF, xsplice(self->sink, NULL, q[1], NULL, SOME, 0));

	EXPECT_EQ(-EINVAL, xread(fd, &c, 1));
	EXPECT_EQ(-EINVAL, xread(sink, &c, 1));
	EXPECT_EQ(-EINVAL, xwrite(fd, &c, 1));
	EXPECT_EQ(-EINVAL, xwrite(sink, &c, 1));
	EXPECT_EQ(-ESPIPE, or_errno(lseek(fd, 0, SEEK_SET)));
	EXPECT_EQ(-ESPIPE, or_errno(lseek(sink, 0, SEEK_SET)));
	EXPECT_EQ(-ESPIPE, xsplice(fd, &off, q[1], NULL, SOME, 0));
	EXPECT_EQ(-ESPIPE, xsplice(p[0], NULL, sink, &off, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(fd, NULL, sink, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsendfile(sink, fd, NULL, SOME));
	EXPECT_EQ(0, xsplice(fd, NULL, q[1], NULL, 0, 0));
	EXPECT_EQ(0, xsplice(p[0], NULL, sink, NULL, 0, 0));

	EXPECT_EQ(0, off);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(0, pipe_bytes(q[0]));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
	/* The position in the stream is unchanged. */
	EXPECT_EQ(SOME, splice_full(fd, q[1], SOME));
	EXPECT_EQ(SOME, read_source(q[0], SOME, 0));
}

TEST_F(source, pipe_without_reader)
{
	close(self->p[0]);
	catch_signal(_metadata, SIGPIPE, 0);
	EXPECT_EQ(-EPIPE, xsplice(self->fd, NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, splice_full(self->fd, self->q[1], SOME));
	EXPECT_EQ(SOME, read_source(self->q[0], SOME, 0));
}

/* Many readers share the pages, and each gets a correct stream. */
#define THREADS 4

struct reader {
	pthread_t thread;
	ssize_t len;
	ssize_t good;
};

static void *read_stream(void *data)
{
	struct reader *r = data;
	int fd = open("/dev/" SOURCE, O_RDONLY), p[2];
	ssize_t ret;

	if (fd < 0 || pipe(p))
		return NULL;
	while (r->good < r->len) {
		ret = xsplice(fd, NULL, p[1], NULL, 3 * SOURCE_PAGE - 1, 0);
		if (ret <= 0 || read_source(p[0], ret, r->good) != ret)
			break;
		r->good += ret;
	}
	return NULL;
}

TEST_F_TIMEOUT(source, threads, 120)
{
	struct reader r[THREADS];
	int i;

	for (i = 0; i < THREADS; i++) {
		r[i] = (struct reader) { .len = 1 << 20 };
		ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, read_stream,
					    &r[i]));
	}
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(r[i].thread, NULL));
		EXPECT_LE(r[i].len, r[i].good);
	}
}

/* The module cannot be unloaded while it is in use. */
TEST_F(source, module)
{
	const char *fixed = module_is_fixed(SAMPLE_MODULE);
	ssize_t ret;

	if (fixed)
		SKIP(return, "%s", fixed);
	EXPECT_EQ(-EWOULDBLOCK, unload_module(SAMPLE_MODULE));
	ASSERT_EQ(SOME, splice_full(self->fd, self->p[1], SOME));
	close(self->fd);
	close(self->sink);
	/* Open files and pages in a pipe both keep the module in use. */
	ret = unload_module(SAMPLE_MODULE);
	EXPECT_TRUE(!ret || ret == -EWOULDBLOCK);
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, 0));
	if (ret)
		EXPECT_EQ(0, unload_module(SAMPLE_MODULE));
	ASSERT_TRUE(have_node(SOURCE, SAMPLE_MODULE));
	self->fd = open_node(_metadata, SOURCE, O_RDONLY);
	ASSERT_EQ(SOME, splice_full(self->fd, self->p[1], SOME));
	EXPECT_EQ(SOME, read_source(self->p[0], SOME, 0));
}

/*
 * The driver in Documentation/filesystems/splice-drivers.rst, built from the
 * text of that page. It returns the buffers that it was given.
 */
FIXTURE(fifo) {
	int fd;
	int p[2];
	int q[2];
	ssize_t page;
	struct job receive;	/* reads 100 bytes */
};

FIXTURE_SETUP(fifo)
{
	if (!have_node(FIFO, FIFO_MODULE))
		SKIP(return, "no /dev/" FIFO " (module " FIFO_MODULE ")");
	self->fd = open_node(_metadata, FIFO, O_RDWR);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->receive = (struct job) {
		.nr = SYS_splice,
		.arg = { self->fd, 0, self->q[1], 0, 100 },
	};
}

FIXTURE_TEARDOWN(fifo)
{
}

/* Sends @len bytes of the pattern, from @pos on, to the driver. */
static void fifo_keep(struct __test_metadata *_metadata,
		      struct _test_data_fifo *self, ssize_t len, loff_t pos)
{
	ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, pos));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->fd, NULL, len, 0));
}

/* If a buffer is larger than requested, the driver gives a part of it. */
TEST_F_TIMEOUT(fifo, part, 10)
{
	ssize_t pos = 0;

	fifo_keep(_metadata, self, self->page, 0);
	ASSERT_EQ(100, job_call(&self->receive));
	ASSERT_EQ(100, read_pattern(self->q[0], 100, DATA, pos));
	for (pos = 100; pos < self->page; pos += 999) {
		ssize_t len = self->page - pos < 999 ? self->page - pos : 999;

		ASSERT_EQ(len, xsplice(self->fd, NULL, self->q[1], NULL, 999,
				       SPLICE_F_NONBLOCK));
		ASSERT_EQ(len, read_pattern(self->q[0], len, DATA, pos));
	}
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->q[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
}

/* A pipe with less room than the driver has data, and a pipe that is full. */
TEST_F_TIMEOUT(fifo, room, 10)
{
	ssize_t len = 4 * self->page;

	ASSERT_EQ(2 * self->page, fcntl(self->q[1], F_SETPIPE_SZ,
					2 * self->page));
	fifo_keep(_metadata, self, len, 0);
	ASSERT_EQ(2 * self->page, xsplice(self->fd, NULL, self->q[1], NULL, len,
					  0));
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->q[1], NULL, len,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(2 * self->page, read_pattern(self->q[0], 2 * self->page, DATA,
					       0));
	ASSERT_EQ(2 * self->page, xsplice(self->fd, NULL, self->q[1], NULL, len,
					  0));
	EXPECT_EQ(2 * self->page, read_pattern(self->q[0], 2 * self->page, DATA,
					       2 * self->page));
}

TEST_F_TIMEOUT(fifo, waits, 10)
{
	char c;

	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &self->receive));
	job_start(_metadata, &self->receive);
	job_wait_blocked(&self->receive);
	/* Other tasks can use the pipe. */
	ASSERT_EQ(1, write_full(self->q[1], "x", 1));
	ASSERT_EQ(1, read_full(self->q[0], &c, 1));
	fifo_keep(_metadata, self, SOME, 0);
	EXPECT_EQ(100, job_finish(_metadata, &self->receive));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

TEST_F_TIMEOUT(fifo, full, 30)
{
	struct job send = {
		.nr = SYS_splice,
		.arg = { self->p[0], 0, self->fd, 0, self->page },
	};
	int i;

	EXPECT_EQ(POLLOUT | POLLWRNORM, poll_now(self->fd, FIFO_EVENTS));
	for (i = 0; i < FIFO_BUFFERS; i++)
		fifo_keep(_metadata, self, self->page, i * self->page);
	EXPECT_EQ(POLLIN | POLLRDNORM, poll_now(self->fd, FIFO_EVENTS));
	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA,
					    i * self->page));
	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->fd, NULL, 1,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &send));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	job_start(_metadata, &send);
	job_wait_blocked(&send);
	for (i = 0; i < FIFO_BUFFERS; i++) {
		ASSERT_EQ(self->page, xsplice(self->fd, NULL, self->q[1], NULL,
					      self->page, 0));
		ASSERT_EQ(self->page, read_pattern(self->q[0], self->page, DATA,
						   i * self->page));
	}
	EXPECT_EQ(self->page, job_finish(_metadata, &send));
	ASSERT_EQ(self->page, splice_full(self->fd, self->q[1], self->page));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA,
					   i * self->page));
}

TEST_HARNESS_MAIN
