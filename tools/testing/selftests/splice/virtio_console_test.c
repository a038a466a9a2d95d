// SPDX-License-Identifier: GPL-2.0
/*
 * splice(2) and sendfile(2) to a port of a virtio console. Its driver has an
 * actor of its own: pages that the driver can take from their owner go to the
 * host without a copy, and other pages are copied.
 *
 * The machine needs three ports: data written to "splice.out" can be read from
 * "splice.in", and "splice.none" has no reader on the host.
 */
#include "splice_memory.h"

#include <dirent.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1
#define OTHER 2

/* Opens the port with that name; returns a negated errno on failure. */
static int open_port(const char *name, int flags)
{
	char path[300], line[80];
	struct dirent *entry;
	int fd = -ENOENT;
	DIR *dir;
	FILE *f;

	dir = opendir("/sys/class/virtio-ports");
	if (!dir)
		return -errno;
	while (fd == -ENOENT && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
			 entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		line[0] = 0;
		if (fgets(line, sizeof(line), f))
			line[strcspn(line, "\n")] = 0;
		fclose(f);
		if (strcmp(line, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = or_errno(open(path, flags));
	}
	closedir(dir);
	return fd;
}

FIXTURE(port) {
	int out;
	int in;
	int p[2];
	char *mem;		/* 64 KiB of data */
	char *buf;		/* the same size */
	ssize_t size;
};

FIXTURE_SETUP(port)
{
	self->out = open_port("splice.out", O_RDWR);
	self->in = open_port("splice.in", O_RDWR);
	if (self->out == -ENOENT || self->in == -ENOENT)
		SKIP(return, "no virtio console ports splice.out and splice.in");
	ASSERT_LE(0, self->out);
	ASSERT_LE(0, self->in);
	make_pipe(_metadata, self->p);
	self->size = 65536;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	fill_pattern(self->mem, self->size, DATA, 0);
	self->buf = malloc(self->size);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(port)
{
}

/* Expects that the next @len bytes that arrive are the data from @pos on. */
static void expect_data(struct __test_metadata *_metadata,
			struct _test_data_port *self, ssize_t len, loff_t pos)
{
	EXPECT_EQ(len, read_pattern(self->in, len, DATA, pos));
}

/* Buffers of all kinds. */
TEST_F_TIMEOUT(port, buffers, 60)
{
	struct job reader = job_reader(self->in, self->buf, self->size);
	char *mem = self->mem;
	int q[2], i;

	make_pipe(_metadata, q);
	job_start(_metadata, &reader);
	for (i = 0; i < 4; i++, mem += 16384) {
		ASSERT_EQ(1000, write_full(self->p[1], mem, 1000));
		ASSERT_EQ(3384, xvmsplice1(self->p[1], mem + 1000, 3384, 0));
		ASSERT_EQ(4000, write_full(q[1], mem + 4384, 4000));
		ASSERT_EQ(4000, xtee(q[0], self->p[1], 4000, 0));
		ASSERT_EQ(4000, xvmsplice1(self->p[1], mem + 8384, 4000,
					   SPLICE_F_GIFT));
		ASSERT_EQ(4000, write_full(self->p[1], mem + 12384, 4000));
		EXPECT_EQ(16384, splice_full(self->p[0], self->out, 16384));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		/* The page still has its data for the other pipe. */
		EXPECT_EQ(4000, read_pattern(q[0], 4000, DATA,
					     i * 16384 + 4384));
	}
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(self->buf, self->size, DATA, 0));
	EXPECT_EQ(self->size, match_pattern(self->mem, self->size, DATA, 0));
}

/*
 * Calls for less than the pipe contains: the driver must send exactly the
 * requested length.
 */
TEST_F_TIMEOUT(port, parts, 60)
{
	static const ssize_t parts[] = { 1, 99, 4096, 5000, 1, 20000 };
	struct job reader = job_reader(self->in, self->buf, self->size);
	ssize_t left = self->size;
	int i;

	job_start(_metadata, &reader);
	ASSERT_EQ(left, xvmsplice1(self->p[1], self->mem, left, 0));
	for (i = 0; i < ARRAY_LEN(parts); i++) {
		EXPECT_EQ(parts[i],
			  splice_full(self->p[0], self->out, parts[i]));
		left -= parts[i];
		EXPECT_EQ(left, pipe_bytes(self->p[0]));
	}
	EXPECT_EQ(left, splice_full(self->p[0], self->out, left));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(self->buf, self->size, DATA, 0));
}

/* Runs on one CPU, and frees the references in its per-CPU batches. */
static void settle_pages(struct __test_metadata *_metadata, void *mem)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	ASSERT_EQ(0, mlock(mem, page_size()));
}

/*
 * For one call, the driver has as many slots as there are buffers, and a copy
 * that crosses a page boundary takes two of them, so that slots run out. This
 * shows which pages the driver copies: all user memory, even if no other task
 * has it any more, except memory that SPLICE_F_GIFT gave away on a kernel that
 * does not pin.
 */
TEST_F(port, out_of_slots)
{
	ssize_t page = page_size(), done;
	bool pins = have_counters() &&
		    read_counter("bytes.memory_to_pipe.copied") >= 0;
	unsigned int flags;
	char *mem;
	int i;

	for (i = 0; i < 3; i++) {
		flags = i == 2 ? SPLICE_F_GIFT : 0;
		mem = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, mem);
		fill_pattern(mem, 2 * page, DATA, 100);
		settle_pages(_metadata, self->mem);
		ASSERT_EQ(100, write_full(self->p[1], self->mem, 100));
		ASSERT_EQ(2 * page, xvmsplice1(self->p[1], mem, 2 * page,
					       flags));
		if (i)
			ASSERT_EQ(0, munmap(mem, 2 * page));
		done = 100 + (flags && !pins ? 2 : 1) * page;
		EXPECT_EQ(done, xsplice(self->p[0], NULL, self->out, NULL,
					100 + 2 * page, 0));
		expect_data(_metadata, self, done, 0);
		EXPECT_EQ(100 + 2 * page - done, pipe_bytes(self->p[0]));
		if (!flags || pins)
			EXPECT_EQ(page, read_pattern(self->p[0], page, DATA,
						     done));
	}
}

/*
 * A buffer larger than a page, from any offset: the driver gets single pages.
 */
TEST_F_TIMEOUT(port, huge_pages, 60)
{
	static const enum memory_kind kinds[] = {
		MEMORY_THP, MEMORY_PTE_THP, MEMORY_HUGETLB,
	};
	static const ssize_t offsets[] = { 0, 100, 4095 };
	ssize_t capacity = pipe_capacity(self->p[0]), len, off;
	struct memory m;
	int i, j;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *missing = memory_missing(kinds[i]);

		if (missing)
			SKIP(return, "%s", missing);
		memory_map(_metadata, &m, kinds[i]);
		for (j = 0; j < ARRAY_LEN(offsets); j++) {
			struct job reader;

			off = offsets[j];
			len = capacity - off;
			reader = job_reader(self->in, self->buf, len);
			job_start(_metadata, &reader);
			ASSERT_EQ(len, xvmsplice1(self->p[1], m.p + off,
						  MEMORY_SIZE - off, 0));
			EXPECT_EQ(len, splice_full(self->p[0], self->out,
						   capacity));
			EXPECT_EQ(len, job_finish(_metadata, &reader));
			EXPECT_EQ(len, match_pattern(self->buf, len, DATA,
						     off));
			EXPECT_EQ(0, pipe_bytes(self->p[0]));
			/* After data of another kind. */
			ASSERT_EQ(100, write_full(self->p[1], m.p, 100));
			ASSERT_EQ(SOME, xvmsplice1(self->p[1], m.p + 100, SOME,
						   0));
			EXPECT_EQ(SOME + 100, splice_full(self->p[0], self->out,
							  SOME + 100));
			expect_data(_metadata, self, SOME + 100, 0);
		}
		memory_unmap(&m);
		memory_give_back(_metadata, kinds[i]);
	}
	expect_no_pins(_metadata);
}

/* Whether the first page of the file is in the page cache. */
static bool is_cached(struct __test_metadata *_metadata, int file)
{
	unsigned char vec;
	void *map;

	map = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, mincore(map, page_size(), &vec));
	ASSERT_EQ(0, munmap(map, page_size()));
	return vec & 1;
}

/*
 * A page that has no other user is not copied: a clean page of a file is
 * removed from the page cache for that. If another pipe refers to the page, it
 * stays.
 */
TEST_F(port, takes_page)
{
	const char *missing = end_missing(END_EXT4);
	ssize_t page = page_size();
	int file, q[2], i;

	if (missing)
		SKIP(return, "%s is not set", missing);
	make_pipe(_metadata, q);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(page, write_full(file, self->mem, page));
	ASSERT_EQ(0, fsync(file));
	/*
	 * The second access puts the page on a list of pages to be activated,
	 * which has a reference. Later ones do not.
	 */
	for (i = 0; i < 3; i++)
		ASSERT_EQ(page, pread(file, self->buf, page, 0));
	for (i = 0; i < 2; i++) {
		settle_pages(_metadata, self->mem);
		ASSERT_TRUE(is_cached(_metadata, file));
		ASSERT_EQ(page, xsplice(file, &(loff_t){ 0 }, self->p[1], NULL,
					page, 0));
		if (!i)
			ASSERT_EQ(page, xtee(self->p[0], q[1], page, 0));
		EXPECT_EQ(page, xsplice(self->p[0], NULL, self->out, NULL,
					page, 0));
		expect_data(_metadata, self, page, 0);
		EXPECT_EQ(!i, is_cached(_metadata, file));
		if (!i)
			EXPECT_EQ(page, read_pattern(q[0], page, DATA, 0));
	}
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(page, read_pattern(file, page, DATA, 0));
}

/* sendfile() loses no data if the port writes less than requested. */
TEST_F_TIMEOUT(port, sendfile, 60)
{
	static const enum end_kind kinds[] = { END_EXT4, END_TMPFS };
	ssize_t done, ret;
	int file, i;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *missing = end_missing(kinds[i]);
		struct job reader = job_reader(self->in, self->buf,
					       self->size - 10);

		if (missing)
			SKIP(return, "%s is not set", missing);
		file = make_file(_metadata, end_dir(_metadata, kinds[i]));
		ASSERT_EQ(self->size, write_full(file, self->mem, self->size));
		ASSERT_EQ(10, lseek(file, 10, SEEK_SET));
		job_start(_metadata, &reader);
		for (done = 10; done < self->size; done += ret) {
			ret = xsendfile(self->out, file, NULL, self->size);
			ASSERT_LT(0, ret);
			ASSERT_EQ(done + ret, lseek(file, 0, SEEK_CUR));
		}
		EXPECT_EQ(0, xsendfile(self->out, file, NULL, self->size));
		EXPECT_EQ(self->size - 10, job_finish(_metadata, &reader));
		EXPECT_EQ(self->size - 10, match_pattern(self->buf,
							 self->size - 10, DATA,
							 10));
		ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
		EXPECT_EQ(self->size, read_pattern(file, self->size, DATA, 0));
	}
}

/* Unlike other sinks, a port does not wait for data in the pipe. */
TEST_F(port, empty_pipe)
{
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->out, NULL, SOME, 0));
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->out, NULL, SOME,
			     SPLICE_F_NONBLOCK));
	close(self->p[1]);
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->out, NULL, SOME, 0));
}

TEST_F(port, errors)
{
	loff_t off = 0;
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(SOME, write_full(self->p[1], self->mem, SOME));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->out, &off, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->in, &off, q[1], NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->in, NULL, q[1], NULL, SOME, 0));
	EXPECT_EQ(-EBADF, xsplice(self->p[1], NULL, self->out, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xtee(self->p[0], self->out, SOME, 0));
	EXPECT_EQ(0, off);
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->out, NULL, SOME, 0));
	expect_data(_metadata, self, SOME, 0);
}

/* A task that waits for room in the pipe is woken. */
TEST_F(port, wakes_writer)
{
	struct job writer = job_writer(self->p[1], self->mem, SOME);
	ssize_t capacity = fill_pipe(_metadata, self->p[1], DATA);

	job_start(_metadata, &writer);
	job_wait_blocked(&writer);
	EXPECT_EQ(capacity, splice_full(self->p[0], self->out, capacity));
	EXPECT_EQ(SOME, job_finish(_metadata, &writer));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	expect_data(_metadata, self, capacity, 0);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* If the host is slow, data is neither lost nor sent twice. */
TEST_F_TIMEOUT(port, full, 60)
{
	struct job job = job_splice(self->p[0], self->out, SOME);
	ssize_t ret, sum = 0;
	char *got;
	int i;

	set_nonblock(_metadata, self->out, true);
	do {
		ASSERT_EQ(SOME, write_full(self->p[1], self->mem, SOME));
		ret = xsplice(self->p[0], NULL, self->out, NULL, SOME, 0);
		sum += SOME;
	} while (ret == SOME);
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));

	set_nonblock(_metadata, self->out, false);
	job_start(_metadata, &job);
	got = malloc(sum);
	ASSERT_NE(NULL, got);
	EXPECT_EQ(sum, read_full(self->in, got, sum));
	for (i = 0; i < sum; i += SOME)
		ASSERT_EQ(SOME, match_pattern(got + i, SOME, DATA, 0));
	free(got);
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* A port without a reader takes nothing out of the pipe. */
FIXTURE(silent_port) {
	int fd;
	int p[2];		/* contains SOME bytes of data */
	struct job job;
};

FIXTURE_SETUP(silent_port)
{
	self->fd = open_port("splice.none", O_RDWR);
	if (self->fd == -ENOENT)
		SKIP(return, "no virtio console port splice.none");
	ASSERT_LE(0, self->fd);
	make_pipe(_metadata, self->p);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	/*
	 * SPLICE_F_NONBLOCK applies to the pipe, and the call waits for the
	 * port.
	 */
	self->job = job_splice(self->p[0], self->fd, SOME);
	self->job.arg[5] = SPLICE_F_NONBLOCK;
}

FIXTURE_TEARDOWN(silent_port)
{
}

static void check_untouched(struct __test_metadata *_metadata, int p[2])
{
	EXPECT_EQ(SOME, pipe_bytes(p[0]));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
}

TEST_F(silent_port, nonblock)
{
	set_nonblock(_metadata, self->fd, true);
	EXPECT_EQ(-EAGAIN, job_call(&self->job));
	EXPECT_EQ(0, poll_now(self->fd, POLLOUT) & POLLOUT);
	check_untouched(_metadata, self->p);
}

TEST_F(silent_port, interrupted)
{
	job_restart(_metadata, &self->job);
	catch_signal(_metadata, SIGUSR1, 0);
	job_signal(_metadata, &self->job, SIGUSR1);
	EXPECT_EQ(-EINTR, job_finish(_metadata, &self->job));
	check_untouched(_metadata, self->p);
}

TEST_F(silent_port, killed)
{
	kill_waiting(_metadata, job_fork_waiting(_metadata, &self->job));
	check_untouched(_metadata, self->p);
}

TEST_HARNESS_MAIN
