// SPDX-License-Identifier: GPL-2.0
/*
 * The events that other processes get for a transfer: inotify, fanotify,
 * edge-triggered epoll, and SIGIO.
 */
#include "splice_common.h"

#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1
#define FILLER 2

enum op {
	SPLICE_FIFO_TO_FIFO,
	SPLICE_FILE_TO_FIFO,
	SPLICE_FIFO_TO_FILE,
	SPLICE_FIFO_TO_NULL,
	TEE,
	VMSPLICE_TO_FIFO,
	VMSPLICE_FROM_FIFO,
	SENDFILE_TO_FIFO,
	SENDFILE_TO_FILE,
	COPY_FILE_RANGE,
};

/* The files of the test, in the order of their digits in @events. */
enum {
	FIFO_A,
	FIFO_B,
	FILE_A,
	FILE_B,
	NR_FILES,
};

FIXTURE(fsnotify) {
	int a[2];		/* a FIFO that contains SOME bytes of data */
	int b[2];		/* an empty FIFO */
	int file[2];		/* the first file contains SOME bytes of data */
	int null;
	char *mem;
	int inotify;
	int wd[NR_FILES];
};

/* @op moves data between two of the files, and inotify reports @events. */
FIXTURE_VARIANT(fsnotify) {
	enum op op;
	const char *events;
	bool edge_in;		/* @op frees slots of FIFO a */
	bool edge_out;		/* @op puts data into FIFO b */
};

FIXTURE_VARIANT_ADD(fsnotify, splice_fifo_to_fifo) {
	.op = SPLICE_FIFO_TO_FIFO,
	.events = "modify 1, access 0",
	.edge_in = true,
	.edge_out = true,
};

FIXTURE_VARIANT_ADD(fsnotify, splice_file_to_fifo) {
	.op = SPLICE_FILE_TO_FIFO,
	.events = "modify 1, access 2",
	.edge_out = true,
};

FIXTURE_VARIANT_ADD(fsnotify, splice_fifo_to_file) {
	.op = SPLICE_FIFO_TO_FILE,
	.events = "modify 3, access 0",
	.edge_in = true,
};

FIXTURE_VARIANT_ADD(fsnotify, splice_fifo_to_null) {
	.op = SPLICE_FIFO_TO_NULL,
	.events = "access 0",
	.edge_in = true,
};

FIXTURE_VARIANT_ADD(fsnotify, tee) {
	.op = TEE,
	.events = "access 0, modify 1",
	.edge_out = true,
};

FIXTURE_VARIANT_ADD(fsnotify, vmsplice_to_fifo) {
	.op = VMSPLICE_TO_FIFO,
	.events = "modify 1",
	.edge_out = true,
};

FIXTURE_VARIANT_ADD(fsnotify, vmsplice_from_fifo) {
	.op = VMSPLICE_FROM_FIFO,
	.events = "access 0",
	.edge_in = true,
};

FIXTURE_VARIANT_ADD(fsnotify, sendfile_to_fifo) {
	.op = SENDFILE_TO_FIFO,
	.events = "access 2, modify 1",
	.edge_out = true,
};

FIXTURE_VARIANT_ADD(fsnotify, sendfile_to_file) {
	.op = SENDFILE_TO_FILE,
	.events = "access 2, modify 3",
};

FIXTURE_VARIANT_ADD(fsnotify, copy_file_range) {
	.op = COPY_FILE_RANGE,
	.events = "access 2, modify 3",
};

static int watch(int inotify, int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return inotify_add_watch(inotify, path, IN_ACCESS | IN_MODIFY);
}

FIXTURE_SETUP(fsnotify)
{
	const char *missing = end_missing(END_TMPFS);
	const char *dir;
	int i;

	if (missing)
		SKIP(return, "%s is not set", missing);
	dir = end_dir(_metadata, END_TMPFS);
	make_fifo(_metadata, self->a);
	make_fifo(_metadata, self->b);
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	for (i = 0; i < 2; i++)
		self->file[i] = make_file(_metadata, dir);
	ASSERT_EQ(SOME, write_pattern(self->file[0], SOME, DATA, 0));
	ASSERT_EQ(0, lseek(self->file[0], 0, SEEK_SET));
	self->null = open("/dev/null", O_WRONLY);
	ASSERT_LE(0, self->null);
	self->mem = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);

	self->inotify = inotify_init1(IN_NONBLOCK);
	if (self->inotify < 0)
		SKIP(return, "inotify_init1(): %s", strerror(errno));
	self->wd[FIFO_A] = watch(self->inotify, self->a[0]);
	self->wd[FIFO_B] = watch(self->inotify, self->b[0]);
	self->wd[FILE_A] = watch(self->inotify, self->file[0]);
	self->wd[FILE_B] = watch(self->inotify, self->file[1]);
	for (i = 0; i < NR_FILES; i++)
		ASSERT_LT(0, self->wd[i]);
}

FIXTURE_TEARDOWN(fsnotify)
{
}

/* Moves up to @len bytes. */
static ssize_t move(struct _test_data_fsnotify *self, enum op op, ssize_t len)
{
	unsigned int nb = SPLICE_F_NONBLOCK;

	switch (op) {
	case SPLICE_FIFO_TO_FIFO:
		return xsplice(self->a[0], NULL, self->b[1], NULL, len, nb);
	case SPLICE_FILE_TO_FIFO:
		return xsplice(self->file[0], NULL, self->b[1], NULL, len, nb);
	case SPLICE_FIFO_TO_FILE:
		return xsplice(self->a[0], NULL, self->file[1], NULL, len, nb);
	case SPLICE_FIFO_TO_NULL:
		return xsplice(self->a[0], NULL, self->null, NULL, len, nb);
	case TEE:
		return xtee(self->a[0], self->b[1], len, nb);
	case VMSPLICE_TO_FIFO:
		return xvmsplice1(self->b[1], self->mem, len, nb);
	case VMSPLICE_FROM_FIFO:
		return xvmsplice1(self->a[0], self->mem, len, nb);
	case SENDFILE_TO_FIFO:
		return xsendfile(self->b[1], self->file[0], NULL, len);
	case SENDFILE_TO_FILE:
		return xsendfile(self->file[1], self->file[0], NULL, len);
	case COPY_FILE_RANGE:
		return xcopy_file_range(self->file[0], NULL, self->file[1],
					NULL, len, 0);
	}
	return -EINVAL;
}

/* Returns all events so far as text; inotify merges successive equal events. */
static const char *events(struct _test_data_fsnotify *self)
{
	struct inotify_event *ev;
	static char text[500];
	char buf[4096], *p;
	ssize_t len;
	int i;

	text[0] = 0;
	len = xread(self->inotify, buf, sizeof(buf));
	for (p = buf; p < buf + len; p += sizeof(*ev) + ev->len) {
		ev = (struct inotify_event *)p;
		for (i = 0; i < NR_FILES && self->wd[i] != ev->wd; i++)
			;
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 "%s%s %d", text[0] ? ", " : "",
			 ev->mask & IN_ACCESS ? "access" : "modify", i);
	}
	return text;
}

TEST_F(fsnotify, inotify)
{
	ASSERT_STREQ("", events(self));
	ASSERT_EQ(100, move(self, variant->op, 100));
	EXPECT_STREQ(variant->events, events(self));
	ASSERT_EQ(SOME - 100, move(self, variant->op, SOME - 100));
	EXPECT_STREQ(variant->events, events(self));
}

/* A call that moves nothing causes no event. */
TEST_F(fsnotify, inotify_nothing)
{
	ssize_t ret;

	EXPECT_EQ(0, move(self, variant->op, 0));
	EXPECT_STREQ("", events(self));

	/* The sources are empty or at the end of file, the target is full. */
	EXPECT_EQ(SOME, read_pattern(self->a[0], SOME, DATA, 0));
	ASSERT_EQ(SOME, lseek(self->file[0], 0, SEEK_END));
	fill_pipe(_metadata, self->b[1], FILLER);
	set_nonblock(_metadata, self->b[1], true);
	events(self);
	ret = move(self, variant->op, SOME);
	EXPECT_EQ(variant->op == SENDFILE_TO_FILE ||
		  variant->op == COPY_FILE_RANGE ? 0 : -EAGAIN, ret);
	EXPECT_STREQ("", events(self));
}

/* Returns which file of the test @fd refers to. */
static int which_file(struct _test_data_fsnotify *self, int fd)
{
	int files[] = { self->a[0], self->b[0], self->file[0], self->file[1] };
	struct stat is, st;
	int i;

	fstat(fd, &is);
	for (i = 0; i < NR_FILES; i++)
		if (!fstat(files[i], &st) && is.st_ino == st.st_ino &&
		    is.st_dev == st.st_dev)
			break;
	return i;
}

/* fanotify reports the same events for regular files, in any order. */
TEST_F(fsnotify, fanotify)
{
	int files[] = { self->a[0], self->b[0], self->file[0], self->file[1] };
	struct fanotify_event_metadata events[16], *ev;
	unsigned long long seen[NR_FILES + 1] = {};
	char text[16];
	ssize_t len;
	int fan, i;

	fan = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC,
			    O_RDONLY | O_NONBLOCK);
	if (fan < 0)
		SKIP(return, "fanotify_init(): %s", strerror(errno));
	for (i = 0; i < NR_FILES; i++)
		ASSERT_EQ(0, fanotify_mark(fan, FAN_MARK_ADD,
					   FAN_ACCESS | FAN_MODIFY, files[i],
					   NULL));
	ASSERT_EQ(100, move(self, variant->op, 100));
	len = xread(fan, events, sizeof(events));
	for (ev = events; FAN_EVENT_OK(ev, len);
	     ev = FAN_EVENT_NEXT(ev, len)) {
		seen[which_file(self, ev->fd)] |= ev->mask;
		close(ev->fd);
	}
	EXPECT_EQ(0, seen[FIFO_A] | seen[FIFO_B] | seen[NR_FILES]);
	for (i = FILE_A; i <= FILE_B; i++) {
		snprintf(text, sizeof(text), "access %d", i);
		EXPECT_EQ(!!strstr(variant->events, text),
			  !!(seen[i] & FAN_ACCESS));
		snprintf(text, sizeof(text), "modify %d", i);
		EXPECT_EQ(!!strstr(variant->events, text),
			  !!(seen[i] & FAN_MODIFY));
	}
}

/* Watches @fd for edges. If @fd is ready now, that is the first edge. */
static int watch_edges(struct __test_metadata *_metadata, int fd, int what)
{
	struct epoll_event ev = { .events = what | EPOLLET };
	int ep = epoll_create1(0);

	ASSERT_LE(0, ep);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	epoll_wait(ep, &ev, 1, 0);
	return ep;
}

/* Returns how many edges there were since the last call: 0 or 1. */
static int edges(int ep)
{
	struct epoll_event ev;

	return epoll_wait(ep, &ev, 1, 0);
}

TEST_F(fsnotify, epoll_edges)
{
	int in = watch_edges(_metadata, self->a[1], EPOLLOUT);
	int out = watch_edges(_metadata, self->b[0], EPOLLIN);
	int other_in = watch_edges(_metadata, self->a[0], EPOLLIN);
	int other_out = watch_edges(_metadata, self->b[1], EPOLLOUT);

	/* A part of a buffer: no slot of the source becomes free. */
	ASSERT_EQ(100, move(self, variant->op, 100));
	EXPECT_EQ(0, edges(in));
	EXPECT_EQ(variant->edge_out, edges(out));

	/* The same again, although no task has read in between. */
	ASSERT_EQ(100, move(self, variant->op, 100));
	EXPECT_EQ(0, edges(in));
	EXPECT_EQ(variant->edge_out, edges(out));

	/* The rest, which takes more than one slot. */
	ASSERT_EQ(SOME - 200, move(self, variant->op, SOME - 200));
	EXPECT_EQ(variant->edge_in, edges(in));
	EXPECT_EQ(variant->edge_out, edges(out));

	/* The ends that the call itself uses get no edge. */
	EXPECT_EQ(0, edges(other_in));
	EXPECT_EQ(0, edges(other_out));

	/* A call that moves nothing wakes no task. */
	EXPECT_EQ(0, move(self, variant->op, 0));
	EXPECT_EQ(0, edges(in));
	EXPECT_EQ(0, edges(out));
}

/* A full source and a full target: an edge occurs when that changes. */
TEST_F(fsnotify, epoll_full)
{
	ssize_t page = page_size();
	int in, out;

	EXPECT_EQ(SOME, read_pattern(self->a[0], SOME, DATA, 0));
	fill_pipe(_metadata, self->a[1], DATA);
	fill_pipe(_metadata, self->b[1], FILLER);
	set_nonblock(_metadata, self->b[1], true);
	in = watch_edges(_metadata, self->a[1], EPOLLOUT);
	out = watch_edges(_metadata, self->b[0], EPOLLIN);
	if (variant->edge_out) {
		EXPECT_EQ(-EAGAIN, move(self, variant->op, SOME));
		EXPECT_EQ(0, edges(in));
		EXPECT_EQ(0, edges(out));
	}

	EXPECT_EQ(page, read_pattern(self->b[0], page, FILLER, 0));
	ASSERT_LE(page - 1, move(self, variant->op, page - 1));
	EXPECT_EQ(0, edges(in));
	EXPECT_EQ(variant->edge_out, edges(out));
	if (variant->edge_in) {
		EXPECT_EQ(0, poll_now(self->a[1], POLLOUT));
		if (variant->edge_out)
			EXPECT_EQ(page, read_pattern(self->b[0], page, FILLER,
						     page));
		ASSERT_EQ(1, move(self, variant->op, 1));
		EXPECT_EQ(1, edges(in));
		EXPECT_EQ(POLLOUT, poll_now(self->a[1], POLLOUT));
	}
}

/*
 * Makes the kernel send @sig instead of SIGIO for @fd, so that each descriptor
 * has a signal of its own.
 */
static void send_sigio(struct __test_metadata *_metadata, int fd, int sig)
{
	int flags = fcntl(fd, F_GETFL);

	ASSERT_LE(0, flags);
	catch_signal(_metadata, sig, 0);
	ASSERT_EQ(0, fcntl(fd, F_SETOWN, getpid()));
	ASSERT_EQ(0, fcntl(fd, F_SETSIG, sig));
	ASSERT_EQ(0, fcntl(fd, F_SETFL, flags | O_ASYNC));
}

/* The owner of the far end gets SIGIO. */
TEST_F(fsnotify, sigio)
{
	send_sigio(_metadata, self->a[1], SIGUSR1);
	send_sigio(_metadata, self->b[0], SIGUSR2);

	ASSERT_EQ(100, move(self, variant->op, 100));
	EXPECT_EQ(0, signal_count(SIGUSR1));
	EXPECT_EQ(variant->edge_out, signal_count(SIGUSR2));
	ASSERT_EQ(SOME - 100, move(self, variant->op, SOME - 100));
	EXPECT_EQ(variant->edge_in, signal_count(SIGUSR1));
	EXPECT_EQ(2 * variant->edge_out, signal_count(SIGUSR2));
	EXPECT_EQ(0, move(self, variant->op, 0));
	EXPECT_EQ(variant->edge_in, signal_count(SIGUSR1));
	EXPECT_EQ(2 * variant->edge_out, signal_count(SIGUSR2));
}

/* inotify also watches pipes without a name, by their path in /proc. */
TEST(inotify_pipe)
{
	FIXTURE_DATA(fsnotify) self = {};

	make_pipe(_metadata, self.a);
	make_pipe(_metadata, self.b);
	self.inotify = inotify_init1(IN_NONBLOCK);
	if (self.inotify < 0)
		SKIP(return, "inotify_init1(): %s", strerror(errno));
	self.wd[FIFO_A] = watch(self.inotify, self.a[0]);
	self.wd[FIFO_B] = watch(self.inotify, self.b[0]);
	ASSERT_LT(0, self.wd[FIFO_A]);
	ASSERT_LT(0, self.wd[FIFO_B]);
	ASSERT_EQ(SOME, write_pattern(self.a[1], SOME, DATA, 0));
	events(&self);
	ASSERT_EQ(100, xtee(self.a[0], self.b[1], 100, 0));
	EXPECT_STREQ("access 0, modify 1", events(&self));
	ASSERT_EQ(100, xsplice(self.a[0], NULL, self.b[1], NULL, 100, 0));
	EXPECT_STREQ("modify 1, access 0", events(&self));
	ASSERT_EQ(1, xvmsplice1(self.b[1], "x", 1, 0));
	EXPECT_STREQ("modify 1", events(&self));
}

TEST_HARNESS_MAIN
