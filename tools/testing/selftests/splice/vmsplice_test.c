// SPDX-License-Identifier: GPL-2.0
/*
 * vmsplice(2): user memory into a pipe by reference, and data of a pipe into
 * user memory.
 */
#include "splice_common.h"

/* Data of more than one buffer, with a partly filled last buffer. */
#define SOME 5000

/* Seeds: of the spliced data, and of the data that fills a pipe. */
#define DATA 1
#define FILLER 2

/* Page-aligned memory, several times as large as a pipe. */
#define MEM_PAGES 512

FIXTURE(vmsplice) {
	int p[2];
	char *mem;
	ssize_t size;
	ssize_t page;
};

FIXTURE_SETUP(vmsplice)
{
	make_pipe(_metadata, self->p);
	self->page = page_size();
	self->size = MEM_PAGES * self->page;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	fill_pattern(self->mem, self->size, DATA, 0);
}

FIXTURE_TEARDOWN(vmsplice)
{
	munmap(self->mem, self->size);
}

/* An offset into a page reduces the room in the last slot by as much. */
TEST_F(vmsplice, sizes)
{
	static const ssize_t sizes[] = { 1, 4095, 4096, 4097, 65536, 200001 };
	static const ssize_t offsets[] = { 0, 1, 100, 4095 };
	ssize_t capacity = pipe_capacity(self->p[0]);
	ssize_t size, offset, want, done, ret;
	int i, j;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		for (j = 0; j < ARRAY_LEN(offsets); j++) {
			size = sizes[i];
			offset = offsets[j];
			for (done = 0; done < size; done += ret) {
				want = capacity - (offset + done) % self->page;
				if (want > size - done)
					want = size - done;
				ret = xvmsplice1(self->p[1],
						 self->mem + offset + done,
						 size - done, 0);
				ASSERT_EQ(want, ret);
				ASSERT_EQ(ret, pipe_bytes(self->p[0]));
				ASSERT_EQ(ret, read_pattern(self->p[0], ret,
							    DATA,
							    offset + done));
			}
		}
	}
}

/* Each range takes a slot, whatever its length, and ranges stay in order. */
TEST_F(vmsplice, many_ranges)
{
	static struct iovec iov[UIO_MAXIOV];
	ssize_t slots, len = 10, done, n, ret, i;

	slots = fcntl(self->p[1], F_SETPIPE_SZ, 256 * self->page);
	ASSERT_EQ(256 * self->page, slots);
	slots /= self->page;
	for (i = 0; i < UIO_MAXIOV; i++) {
		iov[i].iov_base = self->mem + i * len;
		iov[i].iov_len = len;
		/* A range that crosses a page boundary would take two slots. */
		if (i * len / self->page != (i * len + len - 1) / self->page)
			iov[i].iov_base = self->mem + self->page;
	}
	for (done = 0; done < UIO_MAXIOV; done += n) {
		ret = xvmsplice(self->p[1], iov + done, UIO_MAXIOV - done, 0);
		n = UIO_MAXIOV - done < slots ? UIO_MAXIOV - done : slots;
		ASSERT_EQ(n * len, ret);
		for (i = done; i < done + n; i++) {
			loff_t pos = (char *)iov[i].iov_base - self->mem;

			ASSERT_EQ(len, read_pattern(self->p[0], len, DATA,
						    pos));
		}
	}
}

/* Empty ranges take no slot at the start, in the middle and at the end. */
TEST_F(vmsplice, empty_ranges)
{
	struct iovec iov[] = {
		{ NULL, 0 },
		{ self->mem, 100 },
		{ self->mem + 100, 0 },
		{ NULL, 0 },
		{ self->mem + 100, SOME - 100 },
		{ self->mem, 0 },
	};

	EXPECT_EQ(SOME, xvmsplice(self->p[1], iov, ARRAY_LEN(iov), 0));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* The call does not wait for room for the rest. */
TEST_F(vmsplice, longer_than_pipe)
{
	ssize_t capacity = pipe_capacity(self->p[0]);

	EXPECT_EQ(capacity, xvmsplice1(self->p[1], self->mem, self->size, 0));
	EXPECT_EQ(-EAGAIN, xvmsplice1(self->p[1], self->mem, self->size,
				      SPLICE_F_NONBLOCK));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, DATA, 0));
	EXPECT_EQ(capacity, xvmsplice1(self->p[1], self->mem + 4 * self->page,
				       self->size - 4 * self->page,
				       SPLICE_F_NONBLOCK));
	EXPECT_EQ(capacity,
		  read_pattern(self->p[0], capacity, DATA, 4 * self->page));
}

TEST_F(vmsplice, no_reader)
{
	catch_signal(_metadata, SIGPIPE, 0);
	close(self->p[0]);
	EXPECT_EQ(-EPIPE, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
}

TEST_F(vmsplice, poll_and_wake)
{
	char buf[100];
	struct job reader = job_reader(self->p[0], buf, sizeof(buf));

	job_start(_metadata, &reader);
	job_wait_blocked(&reader);
	ASSERT_EQ(100, xvmsplice1(self->p[1], self->mem, 100, 0));
	EXPECT_EQ(100, job_finish(_metadata, &reader));
	EXPECT_EQ(100, match_pattern(buf, 100, DATA, 0));

	EXPECT_EQ(0, poll_now(self->p[0], POLLIN));
	ASSERT_EQ(1, xvmsplice1(self->p[1], self->mem, 1, 0));
	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
	ASSERT_LT(0, xvmsplice1(self->p[1], self->mem, self->size, 0));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
}

/*
 * The pipe refers to the page: the reader sees the data at the time of the
 * read.
 */
TEST_F(vmsplice, later_writes_are_seen)
{
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	fill_pattern(self->mem, SOME, FILLER, 0);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, FILLER, 0));
}

/* The same for writes of another process, if the memory is shared. */
TEST_F(vmsplice, later_writes_to_shared_memory)
{
	char *shared = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, shared);
	memset(shared, 'a', self->page);
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], shared, self->page, 0));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fill_pattern(shared, self->page, DATA, 0);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, DATA, 0));
}

/* The pipe keeps memory that its owner has unmapped. */
TEST_F(vmsplice, unmapped_afterwards)
{
	char *mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, 2 * self->page, FILLER, 0);
	ASSERT_EQ(2 * self->page,
		  xvmsplice1(self->p[1], mem, 2 * self->page, 0));
	ASSERT_EQ(0, munmap(mem, 2 * self->page));
	EXPECT_EQ(2 * self->page,
		  read_pattern(self->p[0], 2 * self->page, FILLER, 0));
}

/* write() after user memory starts a new buffer. */
TEST_F(vmsplice, write_does_not_merge)
{
	ASSERT_EQ(100, xvmsplice1(self->p[1], self->mem, 100, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, FILLER, 0));
	EXPECT_EQ(self->size, match_pattern(self->mem, self->size, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, FILLER, 0));
}

/* Read-only memory can be spliced from. */
TEST_F(vmsplice, read_only_memory)
{
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
	EXPECT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* So can memory that was never touched. */
TEST_F(vmsplice, untouched_memory)
{
	char *mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *buf = malloc(2 * self->page);

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_NE(NULL, buf);
	EXPECT_EQ(2 * self->page,
		  xvmsplice1(self->p[1], mem, 2 * self->page, 0));
	EXPECT_EQ(2 * self->page, read_full(self->p[0], buf, 2 * self->page));
	EXPECT_EQ(2 * self->page, match_byte(buf, 2 * self->page, 0));
	free(buf);
}

/* Data before a fault is spliced, and the next call returns EFAULT. */
TEST_F(vmsplice, fault_on_the_way)
{
	struct iovec iov[2] = {
		{ self->mem + self->page - 100, 100 + self->page },
		{ self->mem, 100 },
	};

	ASSERT_EQ(0, mprotect(self->mem + self->page, self->page, PROT_NONE));
	EXPECT_EQ(100, xvmsplice(self->p[1], iov, 2, 0));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, self->page - 100));

	/* The same after the first sixteen pages. */
	ASSERT_EQ(0, mprotect(self->mem + self->page, self->page,
			      PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(self->mem + 20 * self->page, self->page,
			      PROT_NONE));
	ASSERT_EQ(256 * self->page,
		  fcntl(self->p[1], F_SETPIPE_SZ, 256 * self->page));
	EXPECT_EQ(20 * self->page,
		  xvmsplice1(self->p[1], self->mem, self->size, 0));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], self->mem + 20 * self->page,
				      self->page, 0));
	EXPECT_EQ(20 * self->page,
		  read_pattern(self->p[0], 20 * self->page, DATA, 0));
}

/* Sixteen pages fill the pipe, although the memory after them is unmapped. */
TEST_F(vmsplice, full_before_fault)
{
	ssize_t capacity = pipe_capacity(self->p[0]);

	ASSERT_EQ(0, mprotect(self->mem + capacity, self->page, PROT_NONE));
	EXPECT_EQ(capacity, xvmsplice1(self->p[1], self->mem, self->size, 0));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, DATA, 0));
}

/* Pages with SPLICE_F_GIFT arrive as others do, at every kind of sink. */
TEST_F(vmsplice, gift)
{
	const char *dir = getenv("SPLICE_TMPFS_DIR") ?: "/dev/shm";
	int file = make_file(_metadata, dir);
	ssize_t size = 4 * self->page;
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->mem, size, SPLICE_F_GIFT));
	ASSERT_EQ(size, xtee(self->p[0], q[1], size, 0));
	EXPECT_EQ(size, xsplice(self->p[0], NULL, file, NULL, size,
				SPLICE_F_MOVE));
	EXPECT_EQ(size, read_pattern(q[0], size, DATA, 0));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(size, read_pattern(file, size, DATA, 0));

	/* The same for memory that is not aligned. */
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem + 1, SOME,
				   SPLICE_F_GIFT));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 1));
}

/* To both kinds of sockets by reference. */
TEST_F(vmsplice, to_sockets)
{
	int sv[2][2], i;

	make_tcp_pair(_metadata, sv[0]);
	make_unix_pair(_metadata, sv[1]);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem + 1, SOME, 0));
		EXPECT_EQ(SOME, splice_full(self->p[0], sv[i][0], SOME));
		EXPECT_EQ(SOME, read_pattern(sv[i][1], SOME, DATA, 1));
	}
}

/* From a pipe into memory. */
TEST_F(vmsplice, from_pipe)
{
	static const ssize_t sizes[] = { 1, 4095, 4096, 4097, 65536 };
	static const ssize_t offsets[] = { 0, 1, 4095 };
	int i, j;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		for (j = 0; j < ARRAY_LEN(offsets); j++) {
			ssize_t size = sizes[i];
			char *to = self->mem + self->page + offsets[j];

			memset(self->mem, 'm', self->size);
			ASSERT_EQ(size, write_pattern(self->p[1], size, DATA,
						      0));
			/* Twice as much as the pipe contains. */
			EXPECT_EQ(size, xvmsplice1(self->p[0], to, 2 * size,
						   0));
			EXPECT_EQ(size, match_pattern(to, size, DATA, 0));
			EXPECT_EQ('m', to[-1]);
			EXPECT_EQ('m', to[size]);
			EXPECT_EQ(0, pipe_bytes(self->p[0]));
		}
	}
}

/* Ranges shorter than a buffer, and across two buffers; the rest stays. */
TEST_F(vmsplice, from_pipe_ranges)
{
	struct iovec iov[] = {
		{ self->mem, 10 },
		{ NULL, 0 },
		{ self->mem + 2 * self->page, self->page },
		{ self->mem + 100, 90 },
	};
	ssize_t sum = 10 + self->page + 90;

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, FILLER, 0));
	EXPECT_EQ(sum, xvmsplice(self->p[0], iov, ARRAY_LEN(iov), 0));
	EXPECT_EQ(10, match_pattern(self->mem, 10, FILLER, 0));
	EXPECT_EQ(90, match_pattern(self->mem + 10, 90, DATA, 10));
	EXPECT_EQ(self->page, match_pattern(self->mem + 2 * self->page,
					    self->page, FILLER, 10));
	EXPECT_EQ(90, match_pattern(self->mem + 100, 90, FILLER,
				    10 + self->page));
	EXPECT_EQ(SOME - sum, read_pattern(self->p[0], SOME - sum, FILLER,
					   sum));
}

TEST_F(vmsplice, from_pipe_wakes_writer)
{
	char *more = alloc_pattern(_metadata, self->page, DATA);
	struct job writer = job_writer(self->p[1], more, self->page);

	fill_pipe(_metadata, self->p[1], FILLER);
	job_start(_metadata, &writer);
	job_wait_blocked(&writer);
	EXPECT_EQ(self->page,
		  xvmsplice1(self->p[0], self->mem, self->page, 0));
	EXPECT_EQ(self->page, job_finish(_metadata, &writer));
	EXPECT_EQ(self->page, match_pattern(self->mem, self->page, FILLER, 0));
	free(more);
}

/* A fault loses no data: bytes that were not copied stay in the pipe. */
TEST_F(vmsplice, from_pipe_fault)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, FILLER, 0));
	ASSERT_EQ(0, mprotect(self->mem + self->page, self->page, PROT_READ));

	/* In the middle of the first buffer. */
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[0], self->mem + self->page - 10,
				      SOME, 0));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));

	/* In the second buffer. */
	EXPECT_EQ(self->page, xvmsplice1(self->p[0], self->mem, SOME, 0));
	EXPECT_EQ(self->page, match_pattern(self->mem, self->page, FILLER, 0));
	EXPECT_EQ(SOME - self->page,
		  read_pattern(self->p[0], SOME - self->page, FILLER,
			       self->page));
	EXPECT_EQ(self->page, match_pattern(self->mem + self->page, self->page,
					    DATA, self->page));
}

/* For vmsplice(), an O_RDWR descriptor is the write end. */
TEST_F(vmsplice, read_write_fifo)
{
	int p[2], rw;

	make_fifo(_metadata, p);
	rw = reopen(_metadata, p[0], O_RDWR);
	EXPECT_EQ(SOME, xvmsplice1(rw, self->mem, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
}

/* Memory that maps a file: the pipe refers to the page cache. */
FIXTURE(vmsplice_file) {
	int fd;
	int p[2];
};

FIXTURE_VARIANT(vmsplice_file) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(vmsplice_file, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(vmsplice_file, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(vmsplice_file)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->fd = make_file(_metadata, end_dir(_metadata, variant->kind));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(vmsplice_file)
{
}

TEST_F(vmsplice_file, mapped)
{
	char buf[SOME];
	char *mem;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, FILLER, 0));
	mem = mmap(NULL, SOME, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(SOME, xvmsplice1(self->p[1], mem, SOME, 0));
	fill_pattern(buf, SOME, DATA, 0);
	ASSERT_EQ(SOME, pwrite(self->fd, buf, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* After the last page of the file there is no page to refer to. */
TEST_F(vmsplice_file, beyond_end)
{
	ssize_t page = page_size();
	char *mem;

	ASSERT_EQ(10, write_pattern(self->fd, 10, DATA, 0));
	mem = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(page, xvmsplice1(self->p[1], mem, 2 * page, 0));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], mem + page, page, 0));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, DATA, 0));
	EXPECT_EQ(page - 10, pipe_bytes(self->p[0]));
}

TEST_HARNESS_MAIN
