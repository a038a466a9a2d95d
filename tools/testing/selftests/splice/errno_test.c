// SPDX-License-Identifier: GPL-2.0
/*
 * Every errno of splice(2), tee(2), vmsplice(2) and sendfile(2), documented or
 * not, and the order of the checks.
 *
 * Each row of a table is one call. Before the call two pipes contain known
 * data. After it they must contain the same data, no file position may have
 * changed, and a valid call must move the data.
 */
#include "splice_common.h"

#include <sys/eventfd.h>
#include <sys/resource.h>

/* Contents of the two pipes: seed and length. */
#define SEED_A 1
#define SEED_B 2
#define LEN_A 5000
#define LEN_B 3000

/* The positions of the regular files. */
#define FILE_SIZE 10000
#define FILE_POS 77

enum which_fd {
	A_READ,			/* pipe A, which contains LEN_A bytes */
	A_WRITE,
	B_READ,			/* pipe B, which contains LEN_B bytes */
	B_WRITE,
	EMPTY_READ,		/* an empty pipe */
	EMPTY_WRITE,
	FULL_READ,		/* a full pipe */
	FULL_WRITE,
	ENDED_READ,		/* an empty pipe without a writer */
	BROKEN_WRITE,		/* a pipe without a reader */
	BROKEN_FULL_WRITE,	/* a full pipe without a reader */
	NOTIFY_READ,		/* a notification pipe */
	NOTIFY_WRITE,
	FIFO_RDWR,		/* one descriptor, both ends */
	FILE_RDONLY,
	FILE_WRONLY,
	FILE_RDWR,
	FILE_APPEND,		/* O_RDWR | O_APPEND */
	FILE_PATH,		/* O_PATH */
	DIRECTORY,
	DEV_NULL,		/* O_RDWR, like the next two */
	DEV_ZERO,
	DEV_FULL,
	TCP_SOCKET,		/* connected, with no data to read */
	TCP_UNCONNECTED,
	UNIX_SOCKET,		/* connected, with no data to read */
	UNIX_UNCONNECTED,
	EVENT,			/* an eventfd */
	CLOSED,			/* a descriptor that is not open */
	NEGATIVE,		/* -1 */
	NR_FDS,
};

/* The kinds of offset arguments. */
enum which_off {
	NONE,			/* a null pointer */
	ZERO,
	MINUS_ONE,
	LAST,			/* the largest loff_t */
	UNMAPPED,		/* an unmapped address */
	READ_ONLY,		/* an address of read-only memory */
};

#define NB SPLICE_F_NONBLOCK
#define BAD_FLAG 0x20

static void *unmapped;
static loff_t *read_only;

FIXTURE(errnos) {
	int fd[NR_FDS];
	bool has_notification_pipe;
};

static int open_self(struct __test_metadata *_metadata, const char *path,
		     int flags)
{
	int fd = open(path, flags);

	ASSERT_LE(0, fd);
	return fd;
}

static void set_position(struct __test_metadata *_metadata, int fd)
{
	ASSERT_EQ(FILE_POS, lseek(fd, FILE_POS, SEEK_SET));
}

FIXTURE_SETUP(errnos)
{
	const char *dir = getenv("SPLICE_TMPFS_DIR") ?: "/dev/shm";
	int *fd = self->fd, pair[2], i;

	make_pipe(_metadata, &fd[A_READ]);
	make_pipe(_metadata, &fd[B_READ]);
	make_pipe(_metadata, &fd[EMPTY_READ]);
	make_pipe(_metadata, &fd[FULL_READ]);
	ASSERT_EQ(LEN_A, write_pattern(fd[A_WRITE], LEN_A, SEED_A, 0));
	ASSERT_EQ(LEN_B, write_pattern(fd[B_WRITE], LEN_B, SEED_B, 0));
	fill_pipe(_metadata, fd[FULL_WRITE], SEED_B);

	make_pipe(_metadata, pair);
	fd[ENDED_READ] = pair[0];
	close(pair[1]);
	make_pipe(_metadata, pair);
	fd[BROKEN_WRITE] = pair[1];
	close(pair[0]);
	make_pipe(_metadata, pair);
	fill_pipe(_metadata, pair[1], SEED_B);
	fd[BROKEN_FULL_WRITE] = pair[1];
	close(pair[0]);

	self->has_notification_pipe = !pipe2(pair, NOTIFICATION_PIPE);
	fd[NOTIFY_READ] = self->has_notification_pipe ? pair[0] : -1;
	fd[NOTIFY_WRITE] = self->has_notification_pipe ? pair[1] : -1;

	make_fifo(_metadata, pair);
	fd[FIFO_RDWR] = reopen(_metadata, pair[0], O_RDWR);
	close(pair[0]);
	close(pair[1]);

	fd[FILE_RDWR] = make_file(_metadata, dir);
	ASSERT_EQ(FILE_SIZE,
		  write_pattern(fd[FILE_RDWR], FILE_SIZE, SEED_A, 0));
	fd[FILE_RDONLY] = reopen(_metadata, fd[FILE_RDWR], O_RDONLY);
	fd[FILE_WRONLY] = reopen(_metadata, fd[FILE_RDWR], O_WRONLY);
	fd[FILE_APPEND] = reopen(_metadata, fd[FILE_RDWR], O_RDWR | O_APPEND);
	fd[FILE_PATH] = reopen(_metadata, fd[FILE_RDWR], O_PATH);
	for (i = FILE_RDONLY; i <= FILE_APPEND; i++)
		set_position(_metadata, fd[i]);

	fd[DIRECTORY] = open_self(_metadata, dir, O_RDONLY | O_DIRECTORY);
	fd[DEV_NULL] = open_self(_metadata, "/dev/null", O_RDWR);
	fd[DEV_ZERO] = open_self(_metadata, "/dev/zero", O_RDWR);
	fd[DEV_FULL] = open_self(_metadata, "/dev/full", O_RDWR);

	make_tcp_pair(_metadata, pair);
	fd[TCP_SOCKET] = pair[0];
	make_unix_pair(_metadata, pair);
	fd[UNIX_SOCKET] = pair[0];
	fd[TCP_UNCONNECTED] = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, fd[TCP_UNCONNECTED]);
	fd[UNIX_UNCONNECTED] = socket(AF_UNIX, SOCK_STREAM, 0);
	ASSERT_LE(0, fd[UNIX_UNCONNECTED]);
	fd[EVENT] = eventfd(0, EFD_NONBLOCK);
	ASSERT_LE(0, fd[EVENT]);

	fd[CLOSED] = 999;
	ASSERT_EQ(-1, fcntl(fd[CLOSED], F_GETFD));
	fd[NEGATIVE] = -1;

	/* An address at which the kernel places no later mapping. */
	unmapped = mmap((void *)(1L << 40), page_size(), PROT_READ,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			0);
	ASSERT_NE(MAP_FAILED, unmapped);
	ASSERT_EQ(0, munmap(unmapped, page_size()));
	read_only = mmap(NULL, page_size(), PROT_READ,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, read_only);

	catch_signal(_metadata, SIGPIPE, 0);
	catch_signal(_metadata, SIGXFSZ, 0);
}

FIXTURE_TEARDOWN(errnos)
{
}

static loff_t *offset_of(enum which_off which, loff_t *value)
{
	*value = which == MINUS_ONE ? -1 : which == LAST ? LLONG_MAX : 0;
	switch (which) {
	case NONE:
		return NULL;
	case UNMAPPED:
		return unmapped;
	case READ_ONLY:
		return read_only;
	default:
		return value;
	}
}

/*
 * Checks that nothing has changed and that data can still be moved. Returns a
 * description of the first error, or NULL.
 */
static const char *damage(struct __test_metadata *_metadata, int *fd)
{
	ssize_t capacity = pipe_capacity(fd[FULL_READ]);
	const char *wrong = NULL;
	struct stat st;
	int out[2], i;

	if (pipe_bytes(fd[A_READ]) != LEN_A)
		wrong = "length of pipe A";
	if (pipe_bytes(fd[B_READ]) != LEN_B)
		wrong = "length of pipe B";
	if (pipe_bytes(fd[EMPTY_READ]) || pipe_bytes(fd[ENDED_READ]))
		wrong = "an empty pipe is not empty";
	if (pipe_bytes(fd[FULL_READ]) != capacity)
		wrong = "the full pipe is not full";
	for (i = FILE_RDONLY; i <= FILE_APPEND; i++)
		if (lseek(fd[i], 0, SEEK_CUR) != FILE_POS)
			wrong = "a file position moved";
	if (fstat(fd[FILE_RDWR], &st) || st.st_size != FILE_SIZE)
		wrong = "size of the file";
	if (wrong)
		return wrong;

	/* A valid call of each system call. */
	make_pipe(_metadata, out);
	if (xtee(fd[A_READ], out[1], LEN_A, 0) != LEN_A ||
	    read_pattern(out[0], LEN_A, SEED_A, 0) != LEN_A)
		wrong = "tee from pipe A";
	else if (xsplice(fd[B_READ], NULL, out[1], NULL, LEN_B, 0) != LEN_B ||
		 xtee(out[0], fd[B_WRITE], LEN_B, 0) != LEN_B ||
		 read_pattern(out[0], LEN_B, SEED_B, 0) != LEN_B)
		wrong = "splice from pipe B";
	else if (xsendfile(out[1], fd[FILE_RDONLY], &(loff_t){ 0 },
			   FILE_SIZE) != FILE_SIZE ||
		 read_pattern(out[0], FILE_SIZE, SEED_A, 0) != FILE_SIZE)
		wrong = "sendfile from the file";
	else if (xvmsplice1(out[1], "x", 1, 0) != 1 || pipe_bytes(out[0]) != 1)
		wrong = "vmsplice";
	close(out[0]);
	close(out[1]);
	return wrong;
}

/* Checks the result of one call, and that it changed nothing. */
static void check_row(struct __test_metadata *_metadata, int *fd,
		      const char *what, ssize_t expected, ssize_t ret)
{
	const char *wrong;

	EXPECT_EQ(expected, ret) {
		TH_LOG("%s: expected %s", what, strerror(-expected));
	}
	EXPECT_EQ(expected == -EPIPE, signal_count(SIGPIPE)) {
		TH_LOG("%s: SIGPIPE", what);
	}
	catch_signal(_metadata, SIGPIPE, 0);
	wrong = damage(_metadata, fd);
	EXPECT_EQ(NULL, wrong) {
		TH_LOG("%s: %s", what, wrong);
	}
}

struct splice_row {
	const char *what;
	enum which_fd in;
	enum which_off off_in;
	enum which_fd out;
	enum which_off off_out;
	size_t len;
	unsigned int flags;
	int ret;
};

static void run_splice_rows(struct __test_metadata *_metadata, int *fd,
			    const struct splice_row *rows, int nr)
{
	loff_t in, out, *off_in, *off_out;
	const struct splice_row *row;
	loff_t in_before, out_before;
	ssize_t ret;

	for (row = rows; row < rows + nr; row++) {
		off_in = offset_of(row->off_in, &in);
		off_out = offset_of(row->off_out, &out);
		in_before = in;
		out_before = out;
		ret = xsplice(fd[row->in], off_in, fd[row->out], off_out,
			      row->len, row->flags);
		check_row(_metadata, fd, row->what, row->ret, ret);
		EXPECT_EQ(in_before, in);
		EXPECT_EQ(out_before, out);
	}
}

TEST_F_TIMEOUT(errnos, splice_arguments, 60)
{
	static const struct splice_row rows[] = {
		{ "length 0 comes before the flags",
		  A_READ, NONE, B_WRITE, NONE, 0, BAD_FLAG, 0 },
		{ "length 0 comes before the descriptors",
		  CLOSED, NONE, NEGATIVE, NONE, 0, 0, 0 },
		{ "length 0 comes before the offsets",
		  A_READ, UNMAPPED, B_WRITE, UNMAPPED, 0, 0, 0 },
		{ "unknown flag",
		  A_READ, NONE, B_WRITE, NONE, 1, BAD_FLAG, -EINVAL },
		{ "highest flag",
		  A_READ, NONE, B_WRITE, NONE, 1, 1U << 31, -EINVAL },
		{ "unknown flag beside a good one",
		  A_READ, NONE, B_WRITE, NONE, 1, NB | BAD_FLAG, -EINVAL },
		{ "flags come before the descriptors",
		  CLOSED, NONE, CLOSED, NONE, 1, BAD_FLAG, -EINVAL },
		{ "source closed",
		  CLOSED, NONE, B_WRITE, NONE, 1, 0, -EBADF },
		{ "target closed",
		  A_READ, NONE, CLOSED, NONE, 1, 0, -EBADF },
		{ "source negative",
		  NEGATIVE, NONE, B_WRITE, NONE, 1, 0, -EBADF },
		{ "target negative",
		  A_READ, NONE, NEGATIVE, NONE, 1, 0, -EBADF },
		{ "source O_PATH",
		  FILE_PATH, NONE, B_WRITE, NONE, 1, 0, -EBADF },
		{ "target O_PATH",
		  A_READ, NONE, FILE_PATH, NONE, 1, 0, -EBADF },
		{ "descriptors come before the offsets",
		  A_READ, ZERO, CLOSED, NONE, 1, 0, -EBADF },
	};

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
}

TEST_F_TIMEOUT(errnos, splice_mode, 60)
{
	static const struct splice_row rows[] = {
		{ "source pipe's write end",
		  A_WRITE, NONE, B_WRITE, NONE, 1, 0, -EBADF },
		{ "target pipe's read end",
		  A_READ, NONE, B_READ, NONE, 1, 0, -EBADF },
		{ "both ends the wrong one, of one pipe",
		  A_WRITE, NONE, A_READ, NONE, 1, 0, -EBADF },
		{ "source file write-only",
		  FILE_WRONLY, NONE, B_WRITE, NONE, 1, 0, -EBADF },
		{ "target file read-only",
		  A_READ, NONE, FILE_RDONLY, NONE, 1, 0, -EBADF },
		{ "mode comes before the lack of a pipe",
		  FILE_WRONLY, NONE, FILE_RDWR, NONE, 1, 0, -EBADF },
		{ "mode comes before a negative length",
		  FILE_WRONLY, NONE, B_WRITE, NONE, -1, 0, -EBADF },
		{ "mode comes before a full pipe",
		  FILE_WRONLY, NONE, FULL_WRITE, NONE, 1, NB, -EBADF },
		{ "target directory",
		  A_READ, NONE, DIRECTORY, NONE, 1, 0, -EBADF },
	};

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
}

TEST_F_TIMEOUT(errnos, splice_offset, 60)
{
	static const struct splice_row rows[] = {
		{ "offset for a source pipe",
		  A_READ, ZERO, B_WRITE, NONE, 1, 0, -ESPIPE },
		{ "offset for a target pipe",
		  A_READ, NONE, B_WRITE, ZERO, 1, 0, -ESPIPE },
		{ "offset for a source pipe, to a file",
		  A_READ, ZERO, FILE_RDWR, NONE, 1, 0, -ESPIPE },
		{ "offset for a target pipe, from a file",
		  FILE_RDWR, NONE, B_WRITE, ZERO, 1, 0, -ESPIPE },
		{ "a pipe's offset is not looked at, source",
		  A_READ, UNMAPPED, B_WRITE, NONE, 1, 0, -ESPIPE },
		{ "a pipe's offset is not looked at, target",
		  FILE_RDWR, UNMAPPED, B_WRITE, UNMAPPED, 1, 0, -ESPIPE },
		{ "a pipe's offset comes before the mode",
		  A_WRITE, ZERO, B_WRITE, NONE, 1, 0, -ESPIPE },
		{ "a pipe's offset comes before its being the same one",
		  A_READ, ZERO, A_WRITE, NONE, 1, 0, -ESPIPE },
		{ "source offset unmapped",
		  FILE_RDWR, UNMAPPED, B_WRITE, NONE, 1, 0, -EFAULT },
		{ "target offset unmapped",
		  A_READ, NONE, FILE_RDWR, UNMAPPED, 1, 0, -EFAULT },
		{ "unmapped offset comes before the mode",
		  FILE_WRONLY, UNMAPPED, B_WRITE, NONE, 1, 0, -EFAULT },
		{ "unmapped offset comes before the lack of a pipe",
		  FILE_RDWR, UNMAPPED, FILE_RDWR, NONE, 1, 0, -EFAULT },
		{ "source offset negative",
		  FILE_RDWR, MINUS_ONE, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "target offset negative",
		  A_READ, NONE, FILE_RDWR, MINUS_ONE, 1, 0, -EINVAL },
		{ "source offset and length overflow",
		  FILE_RDWR, LAST, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "target offset and length overflow",
		  A_READ, NONE, FILE_RDWR, LAST, 1, 0, -EINVAL },
		{ "source cannot seek: TCP",
		  TCP_SOCKET, ZERO, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "source cannot seek: AF_UNIX",
		  UNIX_SOCKET, ZERO, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "target cannot seek: TCP",
		  A_READ, NONE, TCP_SOCKET, ZERO, 1, 0, -EINVAL },
		{ "target cannot seek: AF_UNIX",
		  A_READ, NONE, UNIX_SOCKET, ZERO, 1, 0, -EINVAL },
	};

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
}

TEST_F_TIMEOUT(errnos, splice_kind, 60)
{
	static const struct splice_row rows[] = {
		{ "no pipe at all",
		  FILE_RDWR, NONE, FILE_WRONLY, NONE, 1, 0, -EINVAL },
		{ "no pipe at all, with offsets",
		  FILE_RDWR, ZERO, FILE_WRONLY, ZERO, 1, 0, -EINVAL },
		{ "file to socket",
		  FILE_RDWR, NONE, TCP_SOCKET, NONE, 1, 0, -EINVAL },
		{ "one pipe, both ends",
		  A_READ, NONE, A_WRITE, NONE, 1, 0, -EINVAL },
		{ "one pipe, both ends, empty",
		  EMPTY_READ, NONE, EMPTY_WRITE, NONE, 1, NB, -EINVAL },
		{ "one FIFO, one descriptor",
		  FIFO_RDWR, NONE, FIFO_RDWR, NONE, 1, NB, -EINVAL },
		{ "target O_APPEND",
		  A_READ, NONE, FILE_APPEND, NONE, 1, 0, -EINVAL },
		{ "target O_APPEND, with an offset",
		  A_READ, NONE, FILE_APPEND, ZERO, 1, 0, -EINVAL },
		{ "target O_APPEND comes before an empty pipe",
		  EMPTY_READ, NONE, FILE_APPEND, NONE, 1, NB, -EINVAL },
		{ "negative length, file to pipe",
		  FILE_RDWR, NONE, B_WRITE, NONE, -1, 0, -EINVAL },
		{ "negative length, pipe to file",
		  A_READ, NONE, FILE_RDWR, NONE, -1, 0, -EINVAL },
		{ "negative length, pipe to socket",
		  A_READ, NONE, TCP_SOCKET, NONE, -1, 0, -EINVAL },
		{ "negative length comes before a full pipe",
		  FILE_RDWR, NONE, FULL_WRITE, NONE, -1, NB, -EINVAL },
		{ "source without splice_read: directory",
		  DIRECTORY, NONE, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "source without splice_read: /dev/null",
		  DEV_NULL, NONE, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "target without splice_write: /dev/full",
		  A_READ, NONE, DEV_FULL, NONE, 1, 0, -EINVAL },
		{ "target without splice_write: eventfd",
		  A_READ, NONE, EVENT, NONE, 1, 0, -EINVAL },
		{ "target without splice_write comes before an empty pipe",
		  EMPTY_READ, NONE, DEV_FULL, NONE, 1, NB, -EINVAL },
		{ "a full pipe comes before a source without splice_read",
		  DIRECTORY, NONE, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "source TCP, not connected",
		  TCP_UNCONNECTED, NONE, B_WRITE, NONE, 1, 0, -ENOTCONN },
		{ "source AF_UNIX, not connected",
		  UNIX_UNCONNECTED, NONE, B_WRITE, NONE, 1, 0, -EINVAL },
		{ "target TCP, not connected",
		  A_READ, NONE, TCP_UNCONNECTED, NONE, 1, 0, -EPIPE },
		{ "target AF_UNIX, not connected",
		  A_READ, NONE, UNIX_UNCONNECTED, NONE, 1, 0, -ENOTCONN },
	};

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
}

TEST_F_TIMEOUT(errnos, splice_state, 60)
{
	static const struct splice_row rows[] = {
		{ "empty pipe to pipe",
		  EMPTY_READ, NONE, B_WRITE, NONE, 1, NB, -EAGAIN },
		{ "empty pipe to file",
		  EMPTY_READ, NONE, FILE_RDWR, NONE, 1, NB, -EAGAIN },
		{ "empty pipe to file, with an offset",
		  EMPTY_READ, NONE, FILE_RDWR, ZERO, 1, NB, -EAGAIN },
		{ "empty pipe to TCP",
		  EMPTY_READ, NONE, TCP_SOCKET, NONE, 1, NB, -EAGAIN },
		{ "empty pipe to AF_UNIX",
		  EMPTY_READ, NONE, UNIX_SOCKET, NONE, 1, NB, -EAGAIN },
		{ "empty pipe to /dev/null",
		  EMPTY_READ, NONE, DEV_NULL, NONE, 1, NB, -EAGAIN },
		{ "pipe to a full pipe",
		  A_READ, NONE, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "file to a full pipe",
		  FILE_RDWR, NONE, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "file to a full pipe, with an offset",
		  FILE_RDWR, ZERO, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "/dev/zero to a full pipe",
		  DEV_ZERO, NONE, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "empty AF_UNIX socket to pipe",
		  UNIX_SOCKET, NONE, B_WRITE, NONE, 1, NB, -EAGAIN },
		{ "ended pipe to pipe",
		  ENDED_READ, NONE, B_WRITE, NONE, 1, 0, 0 },
		{ "ended pipe to file",
		  ENDED_READ, NONE, FILE_RDWR, NONE, 1, 0, 0 },
		{ "ended pipe to TCP",
		  ENDED_READ, NONE, TCP_SOCKET, NONE, 1, 0, 0 },
		{ "ended pipe to /dev/null",
		  ENDED_READ, NONE, DEV_NULL, NONE, 1, 0, 0 },
		{ "ended pipe to a full pipe",
		  ENDED_READ, NONE, FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "pipe to a pipe without reader",
		  A_READ, NONE, BROKEN_WRITE, NONE, 1, 0, -EPIPE },
		{ "file to a pipe without reader",
		  FILE_RDWR, NONE, BROKEN_WRITE, NONE, 1, 0, -EPIPE },
		{ "directory to a pipe without reader",
		  DIRECTORY, NONE, BROKEN_WRITE, NONE, 1, 0, -EPIPE },
		{ "ended pipe to a pipe without reader",
		  ENDED_READ, NONE, BROKEN_WRITE, NONE, 1, 0, -EPIPE },
		{ "an empty source comes before a missing reader",
		  EMPTY_READ, NONE, BROKEN_WRITE, NONE, 1, NB, -EAGAIN },
		{ "an empty source comes before a missing reader, full pipe",
		  EMPTY_READ, NONE, BROKEN_FULL_WRITE, NONE, 1, NB, -EAGAIN },
		{ "a missing reader comes before a full pipe",
		  A_READ, NONE, BROKEN_FULL_WRITE, NONE, 1, NB, -EPIPE },
		{ "file, a missing reader comes before a full pipe",
		  FILE_RDWR, NONE, BROKEN_FULL_WRITE, NONE, 1, NB, -EPIPE },
	};

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
}

/* The offset is written back last, after the data has moved. */
TEST_F(errnos, splice_offset_not_writable)
{
	int *fd = self->fd, out[2];

	make_pipe(_metadata, out);
	EXPECT_EQ(-EFAULT, xsplice(fd[FILE_RDONLY], read_only, out[1], NULL,
				   100, 0));
	EXPECT_EQ(100, pipe_bytes(out[0]));
	EXPECT_EQ(100, read_pattern(out[0], 100, SEED_A, 0));

	ASSERT_EQ(100, write_pattern(out[1], 100, SEED_A, 0));
	EXPECT_EQ(-EFAULT, xsplice(out[0], NULL, fd[FILE_RDWR], read_only, 100,
				   0));
	EXPECT_EQ(0, pipe_bytes(out[0]));

	/* A call that fails earlier does not write the offset back. */
	EXPECT_EQ(-EAGAIN, xsplice(out[0], NULL, fd[FILE_RDWR], read_only, 100,
				   NB));
	EXPECT_EQ(NULL, damage(_metadata, fd));
}

/* All defined flags are accepted, also those without an effect. */
TEST_F(errnos, splice_all_flags)
{
	unsigned int all = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE |
			   SPLICE_F_GIFT;
	int out[2];

	make_pipe(_metadata, out);
	EXPECT_EQ(100, xsplice(self->fd[FILE_RDONLY], &(loff_t){ 0 }, out[1],
			       NULL, 100, all));
	EXPECT_EQ(50, xsplice(out[0], NULL, self->fd[DEV_NULL], NULL, 50, all));
	EXPECT_EQ(50, xtee(out[0], self->fd[EMPTY_WRITE], 100, all));
	EXPECT_EQ(50, read_pattern(self->fd[EMPTY_READ], 50, SEED_A, 50));
	EXPECT_EQ(1, xvmsplice1(out[1], "x", 1, all));
	EXPECT_EQ(NULL, damage(_metadata, self->fd));
}

/* A notification pipe can only be read from. */
TEST_F_TIMEOUT(errnos, notification_pipe, 60)
{
	static const struct splice_row rows[] = {
		{ "notification pipe to pipe",
		  NOTIFY_READ, NONE, B_WRITE, NONE, 1, NB, -EINVAL },
		{ "notification pipe to file",
		  NOTIFY_READ, NONE, FILE_RDWR, NONE, 1, NB, -EINVAL },
		{ "notification pipe to pipe, with an offset",
		  NOTIFY_READ, ZERO, B_WRITE, NONE, 1, NB, -EINVAL },
		{ "pipe to notification pipe",
		  A_READ, NONE, NOTIFY_WRITE, NONE, 1, NB, -EXDEV },
		{ "pipe to notification pipe, with an offset",
		  A_READ, NONE, NOTIFY_WRITE, ZERO, 1, NB, -EINVAL },
		{ "empty pipe to notification pipe",
		  EMPTY_READ, NONE, NOTIFY_WRITE, NONE, 1, NB, -EAGAIN },
		{ "file to notification pipe",
		  FILE_RDWR, NONE, NOTIFY_WRITE, NONE, 1, NB, -EINVAL },
		{ "notification pipe, both ends",
		  NOTIFY_READ, NONE, NOTIFY_WRITE, NONE, 1, NB, -EINVAL },
		{ "notification pipe, wrong end",
		  NOTIFY_WRITE, NONE, B_WRITE, NONE, 1, NB, -EBADF },
	};
	int *fd = self->fd;
	char c = 0;

	if (!self->has_notification_pipe)
		SKIP(return, "kernel without CONFIG_WATCH_QUEUE");

	run_splice_rows(_metadata, self->fd, rows, ARRAY_LEN(rows));
	check_row(_metadata, fd, "tee to", -EINVAL,
		  xtee(fd[A_READ], fd[NOTIFY_WRITE], 1, NB));
	check_row(_metadata, fd, "tee from", -EINVAL,
		  xtee(fd[NOTIFY_READ], fd[B_WRITE], 1, NB));
	check_row(_metadata, fd, "vmsplice to", -EBADF,
		  xvmsplice1(fd[NOTIFY_WRITE], "x", 1, NB));
	check_row(_metadata, fd, "vmsplice from", -EBADF,
		  xvmsplice1(fd[NOTIFY_READ], &c, 1, NB));
	check_row(_metadata, fd, "sendfile to", -EXDEV,
		  xsendfile(fd[NOTIFY_WRITE], fd[FILE_RDWR], NULL, 1));
	check_row(_metadata, fd, "sendfile from, to pipe", -EINVAL,
		  xsendfile(fd[B_WRITE], fd[NOTIFY_READ], NULL, 1));
	check_row(_metadata, fd, "sendfile from, to file", -EINVAL,
		  xsendfile(fd[FILE_RDWR], fd[NOTIFY_READ], NULL, 1));
}

struct tee_row {
	const char *what;
	enum which_fd in, out;
	size_t len;
	unsigned int flags;
	int ret;
};

TEST_F_TIMEOUT(errnos, tee, 60)
{
	static const struct tee_row rows[] = {
		{ "flags come before length 0",
		  A_READ, B_WRITE, 0, BAD_FLAG, -EINVAL },
		{ "unknown flag", A_READ, B_WRITE, 1, BAD_FLAG, -EINVAL },
		{ "flags come before the descriptors",
		  CLOSED, CLOSED, 1, BAD_FLAG, -EINVAL },
		{ "length 0", A_READ, B_WRITE, 0, 0, 0 },
		{ "length 0 comes before the descriptors",
		  CLOSED, NEGATIVE, 0, 0, 0 },
		{ "source closed", CLOSED, B_WRITE, 1, 0, -EBADF },
		{ "target closed", A_READ, CLOSED, 1, 0, -EBADF },
		{ "source negative", NEGATIVE, B_WRITE, 1, 0, -EBADF },
		{ "source O_PATH", FILE_PATH, B_WRITE, 1, 0, -EBADF },
		{ "source's write end", A_WRITE, B_WRITE, 1, 0, -EBADF },
		{ "target's read end", A_READ, B_READ, 1, 0, -EBADF },
		{ "mode comes before the lack of a pipe",
		  FILE_WRONLY, FILE_RDWR, 1, 0, -EBADF },
		{ "mode comes before its being the same one",
		  A_WRITE, A_READ, 1, 0, -EBADF },
		{ "source not a pipe", FILE_RDWR, B_WRITE, 1, 0, -EINVAL },
		{ "target not a pipe", A_READ, FILE_RDWR, 1, 0, -EINVAL },
		{ "target a socket", A_READ, UNIX_SOCKET, 1, 0, -EINVAL },
		{ "no pipe at all", FILE_RDWR, FILE_RDWR, 1, 0, -EINVAL },
		{ "one pipe, both ends", A_READ, A_WRITE, 1, 0, -EINVAL },
		{ "one pipe, both ends, empty",
		  EMPTY_READ, EMPTY_WRITE, 1, NB, -EINVAL },
		{ "one FIFO, one descriptor",
		  FIFO_RDWR, FIFO_RDWR, 1, NB, -EINVAL },
		{ "empty source", EMPTY_READ, B_WRITE, 1, NB, -EAGAIN },
		{ "full target", A_READ, FULL_WRITE, 1, NB, -EAGAIN },
		{ "ended source", ENDED_READ, B_WRITE, 1, 0, 0 },
		{ "ended source, full target",
		  ENDED_READ, FULL_WRITE, 1, NB, -EAGAIN },
		{ "no reader", A_READ, BROKEN_WRITE, 1, 0, -EPIPE },
		{ "ended source, no reader",
		  ENDED_READ, BROKEN_WRITE, 1, 0, -EPIPE },
		{ "an empty source comes before a missing reader",
		  EMPTY_READ, BROKEN_WRITE, 1, NB, -EAGAIN },
		{ "an empty source comes before a missing reader, full pipe",
		  EMPTY_READ, BROKEN_FULL_WRITE, 1, NB, -EAGAIN },
		{ "a missing reader comes before a full pipe",
		  A_READ, BROKEN_FULL_WRITE, 1, NB, -EPIPE },
	};
	const struct tee_row *row;

	for (row = rows; row < rows + ARRAY_LEN(rows); row++)
		check_row(_metadata, self->fd, row->what, row->ret,
			  xtee(self->fd[row->in], self->fd[row->out], row->len,
			       row->flags));
}

/* There is no maximum length of a transfer between two pipes. */
TEST_F(errnos, pipe_to_pipe_any_length)
{
	EXPECT_EQ(LEN_A, xtee(self->fd[A_READ], self->fd[EMPTY_WRITE], -1, 0));
	EXPECT_EQ(LEN_A, read_pattern(self->fd[EMPTY_READ], LEN_A, SEED_A, 0));
	EXPECT_EQ(LEN_A, xsplice(self->fd[A_READ], NULL, self->fd[EMPTY_WRITE],
				 NULL, -1, 0));
	EXPECT_EQ(LEN_A, read_pattern(self->fd[EMPTY_READ], LEN_A, SEED_A, 0));
}

/* The contents of the vector of a vmsplice row. */
enum which_iov {
	GOOD,			/* 100 bytes */
	EMPTY_RANGE,		/* 0 bytes at a valid address */
	NOT_MAPPED,		/* an unmapped page */
	NO_ACCESS,		/* a page mapped PROT_NONE */
	WRAPPING,		/* ends after the end of the address space */
	NEGATIVE_LENGTH,
	KERNEL,			/* an address of the kernel */
	NULL_BASE,
};

#define UNMAPPED_VECTOR -1L	/* the vector itself is unmapped */

struct vmsplice_row {
	const char *what;
	enum which_fd fd;
	enum which_iov iov;
	long nr;
	unsigned int flags;
	int ret;
};

static void fill_iov(struct __test_metadata *_metadata, struct iovec *iov,
		     enum which_iov which, void *good)
{
	static void *no_access;

	if (!no_access) {
		no_access = mmap(NULL, page_size(), PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, no_access);
	}
	iov->iov_base = good;
	iov->iov_len = 100;
	switch (which) {
	case GOOD:
		break;
	case EMPTY_RANGE:
		iov->iov_len = 0;
		break;
	case NOT_MAPPED:
		iov->iov_base = unmapped;
		break;
	case NO_ACCESS:
		iov->iov_base = no_access;
		break;
	case WRAPPING:
		iov->iov_base = (void *)-50L;
		break;
	case NEGATIVE_LENGTH:
		iov->iov_len = -1;
		break;
	case KERNEL:
		iov->iov_base = (void *)LONG_MIN;
		break;
	case NULL_BASE:
		iov->iov_base = NULL;
		break;
	}
}

TEST_F_TIMEOUT(errnos, vmsplice, 60)
{
	static const struct vmsplice_row rows[] = {
		{ "unknown flag", B_WRITE, GOOD, 1, BAD_FLAG, -EINVAL },
		{ "flags come before an empty vector",
		  B_WRITE, GOOD, 0, BAD_FLAG, -EINVAL },
		{ "flags come before the descriptor",
		  CLOSED, GOOD, 1, BAD_FLAG, -EINVAL },
		{ "closed", CLOSED, GOOD, 1, 0, -EBADF },
		{ "negative", NEGATIVE, GOOD, 1, 0, -EBADF },
		{ "O_PATH", FILE_PATH, GOOD, 1, 0, -EBADF },
		{ "the descriptor comes before an empty vector",
		  CLOSED, GOOD, 0, 0, -EBADF },
		{ "not a pipe: file", FILE_RDWR, GOOD, 1, 0, -EBADF },
		{ "not a pipe: read-only file",
		  FILE_RDONLY, GOOD, 1, 0, -EBADF },
		{ "not a pipe: socket", UNIX_SOCKET, GOOD, 1, 0, -EBADF },
		{ "an empty vector comes before not a pipe",
		  FILE_RDWR, GOOD, 0, 0, 0 },
		{ "an empty range comes before not a pipe",
		  FILE_RDWR, EMPTY_RANGE, 1, 0, 0 },
		{ "empty vector, to pipe", B_WRITE, GOOD, 0, 0, 0 },
		{ "empty vector, from pipe", A_READ, GOOD, 0, 0, 0 },
		{ "empty range, to pipe", B_WRITE, EMPTY_RANGE, 1, 0, 0 },
		{ "empty range, from pipe", A_READ, EMPTY_RANGE, 1, 0, 0 },
		{ "empty range, empty pipe, which does not wait",
		  EMPTY_READ, EMPTY_RANGE, 1, 0, 0 },
		{ "empty range, full pipe, which does not wait",
		  FULL_WRITE, EMPTY_RANGE, 1, 0, 0 },
		{ "too many ranges",
		  B_WRITE, GOOD, UIO_MAXIOV + 1, 0, -EINVAL },
		{ "too many ranges, from pipe",
		  A_READ, GOOD, UIO_MAXIOV + 1, 0, -EINVAL },
		{ "too many ranges come before not a pipe",
		  FILE_RDWR, GOOD, UIO_MAXIOV + 1, 0, -EINVAL },
		{ "vector not there", B_WRITE, GOOD, UNMAPPED_VECTOR, 0,
		  -EFAULT },
		{ "vector not there, from pipe",
		  A_READ, GOOD, UNMAPPED_VECTOR, 0, -EFAULT },
		{ "negative length", B_WRITE, NEGATIVE_LENGTH, 1, 0, -EINVAL },
		{ "negative length, two ranges",
		  B_WRITE, NEGATIVE_LENGTH, 2, 0, -EINVAL },
		{ "negative length, from pipe",
		  A_READ, NEGATIVE_LENGTH, 1, 0, -EINVAL },
		{ "wrapping", B_WRITE, WRAPPING, 1, 0, -EFAULT },
		{ "wrapping, two ranges", B_WRITE, WRAPPING, 2, 0, -EFAULT },
		{ "wrapping, from pipe", A_READ, WRAPPING, 1, 0, -EFAULT },
		{ "kernel's memory", B_WRITE, KERNEL, 1, 0, -EFAULT },
		{ "kernel's memory, two ranges",
		  B_WRITE, KERNEL, 2, 0, -EFAULT },
		{ "kernel's memory, from pipe", A_READ, KERNEL, 1, 0, -EFAULT },
		{ "kernel's memory comes before not a pipe",
		  FILE_RDWR, KERNEL, 1, 0, -EFAULT },
		{ "not mapped", B_WRITE, NOT_MAPPED, 1, 0, -EFAULT },
		{ "not mapped, from pipe", A_READ, NOT_MAPPED, 1, 0, -EFAULT },
		{ "no access", B_WRITE, NO_ACCESS, 1, 0, -EFAULT },
		{ "no access, from pipe", A_READ, NO_ACCESS, 1, 0, -EFAULT },
		{ "null", B_WRITE, NULL_BASE, 1, 0, -EFAULT },
		{ "null, from pipe", A_READ, NULL_BASE, 1, 0, -EFAULT },
		{ "a full pipe comes before not mapped",
		  FULL_WRITE, NOT_MAPPED, 1, NB, -EAGAIN },
		{ "not a pipe comes before not mapped",
		  FILE_RDWR, NOT_MAPPED, 1, 0, -EBADF },
		{ "full pipe", FULL_WRITE, GOOD, 1, NB, -EAGAIN },
		{ "empty pipe", EMPTY_READ, GOOD, 1, NB, -EAGAIN },
		{ "ended pipe", ENDED_READ, GOOD, 1, 0, 0 },
		{ "no reader", BROKEN_WRITE, GOOD, 1, 0, -EPIPE },
		{ "no reader comes before not mapped",
		  BROKEN_WRITE, NOT_MAPPED, 1, 0, -EPIPE },
	};
	struct iovec iov[UIO_MAXIOV + 1];
	const struct vmsplice_row *row;
	char good[100];
	long nr;
	int i;

	memset(good, 'g', sizeof(good));
	for (row = rows; row < rows + ARRAY_LEN(rows); row++) {
		const struct iovec *vec = iov;

		for (i = 0; i < ARRAY_LEN(iov); i++)
			fill_iov(_metadata, &iov[i], GOOD, good);
		nr = row->nr;
		if (nr == UNMAPPED_VECTOR) {
			vec = unmapped;
			nr = 1;
		} else if (nr > 0) {
			fill_iov(_metadata, &iov[0], row->iov, good);
		}
		check_row(_metadata, self->fd, row->what, row->ret,
			  xvmsplice(self->fd[row->fd], vec, nr, row->flags));
		EXPECT_EQ(100, match_byte(good, 100, 'g'));
	}
	check_row(_metadata, self->fd, "empty vector that is not there", 0,
		  xvmsplice(self->fd[B_WRITE], unmapped, 0, 0));
}

struct sendfile_row {
	const char *what;
	enum which_fd out, in;
	enum which_off off;
	size_t count;
	int ret;
};

TEST_F_TIMEOUT(errnos, sendfile, 60)
{
	static const struct sendfile_row rows[] = {
		{ "source closed", DEV_NULL, CLOSED, NONE, 1, -EBADF },
		{ "target closed", CLOSED, FILE_RDWR, NONE, 1, -EBADF },
		{ "source negative", DEV_NULL, NEGATIVE, NONE, 1, -EBADF },
		{ "target negative", NEGATIVE, FILE_RDWR, NONE, 1, -EBADF },
		{ "source O_PATH", DEV_NULL, FILE_PATH, NONE, 1, -EBADF },
		{ "target O_PATH", FILE_PATH, FILE_RDWR, NONE, 1, -EBADF },
		{ "source write-only", DEV_NULL, FILE_WRONLY, NONE, 1, -EBADF },
		{ "target read-only", FILE_RDONLY, FILE_RDWR, NONE, 1, -EBADF },
		{ "source pipe's write end",
		  DEV_NULL, A_WRITE, NONE, 1, -EBADF },
		{ "target pipe's read end", B_READ, FILE_RDWR, NONE, 1,
		  -EBADF },
		{ "descriptors are looked at for count 0",
		  DEV_NULL, CLOSED, NONE, 0, -EBADF },
		{ "offset unmapped", DEV_NULL, FILE_RDWR, UNMAPPED, 1,
		  -EFAULT },
		{ "offset comes before the descriptors",
		  CLOSED, CLOSED, UNMAPPED, 1, -EFAULT },
		{ "offset negative",
		  DEV_NULL, FILE_RDWR, MINUS_ONE, 1, -EINVAL },
		{ "offset negative comes before the target",
		  CLOSED, FILE_RDWR, MINUS_ONE, 1, -EINVAL },
		{ "offset and count overflow",
		  DEV_NULL, FILE_RDWR, LAST, 1, -EINVAL },
		{ "offset at the largest possible",
		  DEV_NULL, FILE_RDWR, LAST, 0, 0 },
		{ "negative count", DEV_NULL, FILE_RDWR, NONE, -1, -EINVAL },
		{ "negative count comes before the target",
		  CLOSED, FILE_RDWR, NONE, -1, -EINVAL },
		{ "offset for a pipe", DEV_NULL, A_READ, ZERO, 1, -ESPIPE },
		{ "offset for a pipe, to a pipe",
		  B_WRITE, A_READ, ZERO, 1, -ESPIPE },
		{ "offset for a TCP socket",
		  DEV_NULL, TCP_SOCKET, ZERO, 1, -ESPIPE },
		{ "offset for an AF_UNIX socket",
		  DEV_NULL, UNIX_SOCKET, ZERO, 1, -ESPIPE },
		{ "source pipe", DEV_NULL, A_READ, NONE, 1, -EINVAL },
		{ "source pipe, to a pipe", B_WRITE, A_READ, NONE, 1, -EINVAL },
		{ "source pipe, to itself", A_WRITE, A_READ, NONE, 1, -EINVAL },
		{ "source pipe, count 0", DEV_NULL, A_READ, NONE, 0, -EINVAL },
		{ "source TCP socket", DEV_NULL, TCP_SOCKET, NONE, 1, -EINVAL },
		{ "source AF_UNIX socket",
		  FILE_RDWR, UNIX_SOCKET, NONE, 1, -EINVAL },
		{ "source directory", DEV_NULL, DIRECTORY, NONE, 1, -EINVAL },
		{ "source directory, count 0",
		  DEV_NULL, DIRECTORY, NONE, 0, 0 },
		{ "source without splice_read",
		  FILE_RDWR, DEV_NULL, NONE, 1, -EINVAL },
		{ "target O_APPEND", FILE_APPEND, FILE_RDWR, NONE, 1, -EINVAL },
		{ "target O_APPEND, count 0",
		  FILE_APPEND, FILE_RDWR, NONE, 0, -EINVAL },
		{ "target O_APPEND, end of file",
		  FILE_APPEND, FILE_RDONLY, LAST, 0, -EINVAL },
		{ "target without splice_write",
		  DEV_FULL, FILE_RDWR, NONE, 1, -EINVAL },
		{ "target eventfd", EVENT, FILE_RDWR, NONE, 8, -EINVAL },
		{ "target TCP, not connected",
		  TCP_UNCONNECTED, FILE_RDWR, NONE, 1, -EPIPE },
		{ "target AF_UNIX, not connected",
		  UNIX_UNCONNECTED, FILE_RDWR, NONE, 1, -ENOTCONN },
		{ "target pipe without reader",
		  BROKEN_WRITE, FILE_RDWR, NONE, 1, -EPIPE },
		{ "count 0", DEV_NULL, FILE_RDWR, NONE, 0, 0 },
		{ "count 0 to a pipe", B_WRITE, FILE_RDWR, NONE, 0, 0 },
	};
	const struct sendfile_row *row;
	loff_t off, before, *p;

	for (row = rows; row < rows + ARRAY_LEN(rows); row++) {
		p = offset_of(row->off, &off);
		before = off;
		check_row(_metadata, self->fd, row->what, row->ret,
			  xsendfile(self->fd[row->out], self->fd[row->in], p,
				    row->count));
		EXPECT_EQ(before, off);
	}
}

/* sendfile() uses O_NONBLOCK of the target, if that is a pipe. */
TEST_F(errnos, sendfile_full_pipe)
{
	int *fd = self->fd;

	set_nonblock(_metadata, fd[FULL_WRITE], true);
	check_row(_metadata, fd, "full pipe", -EAGAIN,
		  xsendfile(fd[FULL_WRITE], fd[FILE_RDWR], NULL, 1));
	check_row(_metadata, fd, "full pipe, count 0", -EAGAIN,
		  xsendfile(fd[FULL_WRITE], fd[FILE_RDWR], NULL, 0));
	check_row(_metadata, fd, "full pipe comes before no splice_read",
		  -EAGAIN, xsendfile(fd[FULL_WRITE], fd[A_READ], NULL, 1));
}

TEST_F(errnos, sendfile_offset_not_writable)
{
	int *fd = self->fd;

	EXPECT_EQ(-EFAULT, xsendfile(fd[EMPTY_WRITE], fd[FILE_RDONLY],
				     read_only, 100));
	EXPECT_EQ(100, read_pattern(fd[EMPTY_READ], 100, SEED_A, 0));

	/*
	 * Unlike splice(), sendfile() writes the offset back even if it fails.
	 */
	check_row(_metadata, fd, "closed", -EFAULT,
		  xsendfile(fd[CLOSED], fd[FILE_RDONLY], read_only, 100));
}

/* Offsets above the maximum file size of both file systems. */
TEST_F(errnos, sendfile_beyond_maximum_size)
{
	const char *missing = end_missing(END_EXT4);
	int *fd = self->fd, file;
	loff_t limit = 0, step, off;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	for (step = 1LL << 62; step; step /= 2)
		if (lseek(file, limit + step, SEEK_SET) >= 0)
			limit += step;
	ASSERT_GT(1LL << 60, limit);

	off = limit;
	check_row(_metadata, fd, "source", -EOVERFLOW,
		  xsendfile(fd[DEV_NULL], file, &off, 1));
	check_row(_metadata, fd, "source, to a pipe", -EOVERFLOW,
		  xsendfile(fd[B_WRITE], file, &off, 1));
	EXPECT_EQ(limit, off);
	/* The smaller maximum applies, also to the position in the source. */
	check_row(_metadata, fd, "target", -EOVERFLOW,
		  xsendfile(file, fd[DEV_ZERO], &off, 1));
	EXPECT_EQ(limit, off);

	off = limit - 1;
	check_row(_metadata, fd, "one byte before", 0,
		  xsendfile(fd[DEV_NULL], file, &off, 10));
	EXPECT_EQ(limit - 1, off);
}

/* A file at RLIMIT_FSIZE: EFBIG and SIGXFSZ, and the data stays in the pipe. */
TEST_F(errnos, file_size_limit)
{
	struct rlimit limit = {
		.rlim_cur = FILE_SIZE, .rlim_max = RLIM_INFINITY,
	};
	loff_t off = FILE_SIZE;
	int *fd = self->fd;

	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	check_row(_metadata, fd, "splice", -EFBIG,
		  xsplice(fd[A_READ], NULL, fd[FILE_RDWR], &off, 1, 0));
	EXPECT_EQ(FILE_SIZE, off);
	EXPECT_EQ(1, signal_count(SIGXFSZ));

	ASSERT_EQ(FILE_SIZE, lseek(fd[FILE_WRONLY], FILE_SIZE, SEEK_SET));
	off = 0;
	EXPECT_EQ(-EFBIG,
		  xsendfile(fd[FILE_WRONLY], fd[FILE_RDONLY], &off, 1));
	EXPECT_EQ(0, off);
	EXPECT_EQ(2, signal_count(SIGXFSZ));
	set_position(_metadata, fd[FILE_WRONLY]);
	EXPECT_EQ(NULL, damage(_metadata, fd));
}

TEST_HARNESS_MAIN
