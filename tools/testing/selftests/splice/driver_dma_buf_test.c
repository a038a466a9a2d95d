// SPDX-License-Identifier: GPL-2.0
/*
 * The data of a pipe as a dma-buf, without a device: what is in it, who may write
 * to it, how long its pages stay, and the limits.
 */
#include "dma_buf_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

#include <sys/resource.h>

FIXTURE(dma_buf) {
	int dev;
	int p[2];
	ssize_t page;
	struct dma_buf_splice_export exp;
};

FIXTURE_SETUP(dma_buf)
{
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(dma_buf)
{
}

/* Expects that nothing can write to the dma-buf. */
static void expect_read_only(struct __test_metadata *_metadata,
			     const struct dma_buf_splice_export *exp)
{
	char *mem;

	EXPECT_EQ(NULL, dma_buf_map(exp, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(NULL, dma_buf_map(exp, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	mem = dma_buf_map(exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-EACCES, or_errno(mprotect(mem, exp->size,
					     PROT_READ | PROT_WRITE)));
	EXPECT_EQ(-EACCES, or_errno(mprotect(mem, page_size(),
					     PROT_READ | PROT_WRITE)));
	munmap(mem, exp->size);
	EXPECT_EQ(-EACCES, dma_buf_sync(exp->fd, DMA_BUF_SYNC_WRITE));
	EXPECT_EQ(-EACCES, dma_buf_sync(exp->fd, DMA_BUF_SYNC_RW));
	EXPECT_EQ(0, dma_buf_sync(exp->fd, DMA_BUF_SYNC_READ));
}

/* A private mapping would copy a page that it writes to. */
static void expect_no_private_mapping(struct __test_metadata *_metadata,
				      const struct dma_buf_splice_export *exp)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, exp->size, PROT_READ, MAP_PRIVATE,
				   exp->fd, 0));
	EXPECT_EQ(EINVAL, errno);
}

/* Opens the file of /proc/self/fd/@fd again, for direct I/O. */
static int reopen_direct(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_DIRECT);
}

TEST_F(dma_buf, nothing)
{
	struct stat st;

	EXPECT_EQ(-ENODATA, dma_buf_export(self->dev, &self->exp));
	EXPECT_EQ(-1, self->exp.fd);
	ASSERT_EQ(0, fstat(self->dev, &st));
	EXPECT_EQ(0600, st.st_mode & 07777);
}

/* No call that fails loses data. */
TEST_F(dma_buf, bad_arguments)
{
	struct dma_buf_splice_export exp = {};
	int i;

	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	for (i = 1; i < 32; i++) {
		exp.flags = 1U << i;
		EXPECT_EQ(-EINVAL, or_errno(ioctl(self->dev,
						  DMA_BUF_SPLICE_EXPORT,
						  &exp)));
	}
	exp.flags = 0;
	exp.reserved = 1;
	EXPECT_EQ(-EINVAL, or_errno(ioctl(self->dev, DMA_BUF_SPLICE_EXPORT,
					  &exp)));
	exp.reserved = 0;
	for (i = 0; i < 2; i++) {
		exp.reserved2[i] = 1;
		EXPECT_EQ(-EINVAL, or_errno(ioctl(self->dev,
						  DMA_BUF_SPLICE_EXPORT,
						  &exp)));
		exp.reserved2[i] = 0;
	}
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->dev, DMA_BUF_SPLICE_EXPORT,
					  NULL)));
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(self->dev, DMA_BUF_IOCTL_SYNC,
					  &exp)));
	EXPECT_EQ(0, exp.fd);
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

/* The argument can be read, but the result cannot be written to it. */
TEST_F(dma_buf, read_only_argument)
{
	void *arg = mmap(NULL, self->page, PROT_READ,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, arg);
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->dev, NULL, 100, 0));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->dev, DMA_BUF_SPLICE_EXPORT,
					  arg)));
	dma_buf_expect(_metadata, self->dev, &self->exp, 100, 100, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

TEST_F(dma_buf, no_descriptor)
{
	struct rlimit old, limit;

	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	limit = old;
	limit.rlim_cur = 1;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(-EMFILE, dma_buf_export(self->dev, &self->exp));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

TEST_F(dma_buf, cloexec)
{
	struct dma_buf_splice_export exp = {};
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(1, write_full(self->p[1], "x", 1));
		ASSERT_EQ(1, xsplice(self->p[0], NULL, self->dev, NULL, 1, 0));
		exp.flags = i ? DMA_BUF_SPLICE_CLOEXEC : 0;
		ASSERT_EQ(0, ioctl(self->dev, DMA_BUF_SPLICE_EXPORT, &exp));
		EXPECT_EQ(i ? FD_CLOEXEC : 0, fcntl(exp.fd, F_GETFD));
		/* The structure can be passed again. */
		EXPECT_EQ(i ? DMA_BUF_SPLICE_CLOEXEC : 0, exp.flags);
	}
}

/* Each export begins a new set. */
TEST_F(dma_buf, sets)
{
	struct dma_buf_splice_export second;
	ssize_t gathered = dma_buf_counter("bytes.gathered");
	ssize_t copied = dma_buf_counter("bytes.copied");
	char path[64];

	ASSERT_LE(0, gathered);
	ASSERT_EQ(3 * self->page,
		  write_pattern(self->p[1], 3 * self->page, DATA, 0));
	/* A set can be gathered by several calls. */
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->dev);
	EXPECT_EQ(2 * self->page, read_line_of(path, "dma-buf-bytes:"));
	EXPECT_EQ(0, read_line_of(path, "dma-buf-copied:"));
	EXPECT_EQ(2 * self->page, read_line_of(path, "dma-buf-size:"));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * self->page, 0,
		       true);
	EXPECT_EQ(-ENODATA, dma_buf_export(self->dev, &second));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &second, self->page, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	dma_buf_expect_data(_metadata, &second, DATA, 2 * self->page);
	EXPECT_EQ(gathered + 3 * self->page,
		  dma_buf_counter("bytes.gathered"));
	EXPECT_EQ(copied, dma_buf_counter("bytes.copied"));
}

/* Pages of write() belong to the pipe alone. */
TEST_F(dma_buf, written)
{
	char *mem;

	ASSERT_EQ(2 * self->page,
		  write_pattern(self->p[1], 2 * self->page, DATA, 0));
	ASSERT_EQ(2 * self->page, xsplice(self->p[0], NULL, self->dev, NULL,
					  2 * self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * self->page, 0,
		       true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	expect_no_private_mapping(_metadata, &self->exp);
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, dma_buf_sync(self->exp.fd, DMA_BUF_SYNC_RW));
	fill_pattern(mem, 2 * self->page, DATA + 1, 0);
	EXPECT_EQ(0, dma_buf_sync(self->exp.fd,
				  DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END));
	munmap(mem, 2 * self->page);
	dma_buf_expect_data(_metadata, &self->exp, DATA + 1, 0);
	/* A mapping can also be made writable later. */
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, mprotect(mem, self->page, PROT_READ | PROT_WRITE));
	mem[0]++;
	munmap(mem, 2 * self->page);
}

/* A part of a mapping, from an offset, and too large a mapping. */
TEST_F(dma_buf, mapped_in_parts)
{
	char *mem;

	ASSERT_EQ(4 * self->page,
		  write_pattern(self->p[1], 4 * self->page, DATA, 0));
	ASSERT_EQ(4 * self->page, xsplice(self->p[0], NULL, self->dev, NULL,
					  4 * self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 4 * self->page, 0,
		       true);
	mem = mmap(NULL, 2 * self->page, PROT_READ, MAP_SHARED, self->exp.fd,
		   self->page);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(2 * self->page,
		  match_pattern(mem, 2 * self->page, DATA, self->page));
	munmap(mem, 2 * self->page);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * self->page, PROT_READ, MAP_SHARED,
				   self->exp.fd, 3 * self->page));
	EXPECT_EQ(EINVAL, errno);
}

/* A page that tee() shares with another pipe, until the other pipe is empty. */
TEST_F(dma_buf, teed)
{
	char buf[65536];
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xtee(self->p[0], q[1], self->page, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	ASSERT_EQ(self->page, read_full(q[0], buf, self->page));
	/* The decision is made when the page leaves the pipe. */
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, false);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	expect_read_only(_metadata, &self->exp);

	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xtee(self->p[0], q[1], self->page, 0));
	ASSERT_EQ(self->page, read_full(q[0], buf, self->page));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
}

/* One page of the page cache among private ones. */
TEST_F(dma_buf, mixed)
{
	int file = make_memfd(_metadata, self->page, DATA);
	char *mem = alloc_pattern(_metadata, self->page, DATA);

	ASSERT_EQ(self->page, write_full(self->p[1], mem, self->page));
	ASSERT_EQ(self->page, xsplice(file, NULL, self->p[1], NULL, self->page,
				      0));
	ASSERT_EQ(self->page, write_full(self->p[1], mem, self->page));
	ASSERT_EQ(3 * self->page, xsplice(self->p[0], NULL, self->dev, NULL,
					  3 * self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 3 * self->page, 0,
		       false);
	expect_read_only(_metadata, &self->exp);
	free(mem);
}

/* User memory stays shared with its process, gift or not. */
TEST_F(dma_buf, user_memory)
{
	ssize_t len = 4 * self->page;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *map;
	int i;

	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < 2; i++) {
		fill_pattern(mem, len, DATA, 0);
		ASSERT_EQ(len, xvmsplice1(self->p[1], mem, len,
					  i ? SPLICE_F_GIFT : 0));
		ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len,
				       0));
		dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, false);
		dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
		expect_read_only(_metadata, &self->exp);
		/* There is one memory, which the process may change. */
		map = dma_buf_map(&self->exp, PROT_READ);
		ASSERT_NE(NULL, map);
		fill_pattern(mem, len, DATA + 1, 0);
		EXPECT_EQ(len, match_pattern(map, len, DATA + 1, 0));
		munmap(map, len);
		close(self->exp.fd);
	}
}

/* A gift does not become private when the process gives its mapping up. */
TEST_F(dma_buf, gift_alone)
{
	char *mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, self->page, DATA, 0);
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], mem, self->page,
					 SPLICE_F_GIFT));
	munmap(mem, self->page);
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, false);
	expect_read_only(_metadata, &self->exp);
}

/* Holes of a file on tmpfs are the zero page. */
TEST_F(dma_buf, zero_page)
{
	int file = memfd_create("hole", 0);

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, self->page));
	ASSERT_EQ(self->page, xsplice(file, NULL, self->p[1], NULL, self->page,
				      0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, false);
	expect_read_only(_metadata, &self->exp);
}

/* A socket may have a page of the page cache, so its pages are not private. */
TEST_F(dma_buf, page_cache_through_socket)
{
	int file = make_memfd(_metadata, 4 * self->page, DATA);
	ssize_t ret, sum;
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(4 * self->page, xsendfile(sv[0], file, NULL, 4 * self->page));
	for (sum = 0; sum < 4 * self->page; sum += ret) {
		ret = xsplice(sv[1], NULL, self->p[1], NULL,
			      4 * self->page - sum, 0);
		ASSERT_LT(0, ret);
	}
	/* Whole pages arrive as they were sent, if TCP has not split them. */
	ret = xsplice(self->p[0], NULL, self->dev, NULL, sum, 0);
	if (ret == -EINVAL)
		SKIP(return, "TCP has split the pages");
	ASSERT_LT(0, ret);
	ASSERT_EQ(0, dma_buf_export(self->dev, &self->exp));
	EXPECT_EQ(0, self->exp.properties);
	expect_read_only(_metadata, &self->exp);
}

/* Files: the page cache, and direct I/O, which fills pages of the pipe. */
FIXTURE(file) {
	int dev;
	int file;
	ssize_t page;
	ssize_t len;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(file) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(file, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(file, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(file)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	self->len = 300 * self->page;
	self->file = make_file(_metadata, end_dir(_metadata, variant->kind));
	ASSERT_EQ(self->len, write_pattern(self->file, self->len, DATA, 0));
	ASSERT_EQ(0, fsync(self->file));
	ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
}

FIXTURE_TEARDOWN(file)
{
}

TEST_F(file, page_cache)
{
	char *mem;

	ASSERT_EQ(self->len, xsendfile(self->dev, self->file, NULL, self->len));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->len, 0, false);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	expect_read_only(_metadata, &self->exp);
	expect_no_private_mapping(_metadata, &self->exp);
	/* There is one memory: a write to the file changes the dma-buf. */
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
	ASSERT_EQ(self->len, write_pattern(self->file, self->len, DATA + 1, 0));
	EXPECT_EQ(self->len, match_pattern(mem, self->len, DATA + 1, 0));
	munmap(mem, self->len);
}

TEST_F(file, direct)
{
	ssize_t copied = dma_buf_counter("bytes.copied");
	int file = reopen_direct(self->file);
	char *mem;

	if (file < 0)
		SKIP(return, "no direct I/O here: %s", strerror(errno));
	ASSERT_LE(0, copied);
	ASSERT_EQ(self->len, xsendfile(self->dev, file, NULL, self->len));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->len, 0, true);
	EXPECT_EQ(copied, dma_buf_counter("bytes.copied"));
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	/* A write to the dma-buf does not change the file. */
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	fill_pattern(mem, self->len, DATA + 1, 0);
	munmap(mem, self->len);
	expect_file(_metadata, self->file, self->len, DATA, 0);
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(self->len, receive_pattern(file, self->len, DATA, 0));
}

/* The pages stay, whatever happens to the file. */
TEST_F(file, truncated)
{
	ASSERT_EQ(self->len, xsendfile(self->dev, self->file, NULL, self->len));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->len, 0, false);
	close(self->dev);
	ASSERT_EQ(0, ftruncate(self->file, 0));
	/* The file has no name, so this removes it. */
	close(self->file);
	write_text("/proc/sys/vm/drop_caches", "3");
	write_text("/proc/sys/vm/compact_memory", "1");
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

TEST_F(file, caches_dropped)
{
	ASSERT_EQ(self->len, xsendfile(self->dev, self->file, NULL, self->len));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->len, 0, false);
	write_text("/proc/sys/vm/drop_caches", "3");
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

/*
 * A file system that truncates a file on DAX waits for its pages. So none of them
 * is in a dma-buf: the data is copied when it goes into the pipe.
 */
TEST_F(dma_buf, dax)
{
	ssize_t len = 4 * self->page;
	const char *missing;
	char *mem, *map;
	int file, i;

	missing = dax_open(_metadata, &file);
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(len, write_pattern(file, len, DATA, 0));
	mem = mmap(NULL, len, PROT_READ, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < 2; i++) {
		if (i == 0) {
			ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
			ASSERT_EQ(len, xsendfile(self->dev, file, NULL, len));
		} else {
			ASSERT_EQ(len, xvmsplice1(self->p[1], mem, len, 0));
			ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev,
					       NULL, len, 0));
		}
		dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, true);
		map = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
		ASSERT_NE(NULL, map);
		EXPECT_EQ(len, match_pattern(map, len, DATA, 0));
		fill_pattern(map, len, DATA + 1, 0);
		munmap(map, len);
		expect_file(_metadata, file, len, DATA, 0);
	}
	munmap(mem, len);
	EXPECT_EQ(0, ftruncate(file, 0));
	dma_buf_expect_data(_metadata, &self->exp, DATA + 1, 0);
}

/* Nothing but zeroes around the data, for any length. */
enum source {
	PAGE_CACHE,		/* a page cache with more data than is taken */
	WRITTEN,		/* pages of write(), the rest stays in the pipe */
	STALE,			/* pages of write() that had other data before */
	SOCKET,			/* AF_UNIX */
};

FIXTURE(partial) {
	int dev;
	int p[2];
	int in;
	int peer;
	ssize_t page;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(partial) {
	enum source source;
};

FIXTURE_VARIANT_ADD(partial, page_cache) {
	.source = PAGE_CACHE,
};

FIXTURE_VARIANT_ADD(partial, written) {
	.source = WRITTEN,
};

FIXTURE_VARIANT_ADD(partial, stale) {
	.source = STALE,
};

FIXTURE_VARIANT_ADD(partial, socket) {
	.source = SOCKET,
};

FIXTURE_SETUP(partial)
{
	int sv[2];

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	self->in = -1;
	self->peer = -1;
	if (variant->source == PAGE_CACHE) {
		self->in = make_memfd(_metadata, DMA_BUF_MOST, DATA);
	} else if (variant->source == SOCKET) {
		make_unix_pair(_metadata, sv);
		self->peer = sv[0];
		self->in = sv[1];
	}
}

FIXTURE_TEARDOWN(partial)
{
}

/* Puts at least @len bytes of the pattern into the pipe; returns how many. */
static ssize_t put(struct __test_metadata *_metadata,
		   struct _test_data_partial *self, enum source source,
		   ssize_t len, loff_t pos)
{
	char *junk;

	switch (source) {
	case PAGE_CACHE:
		ASSERT_EQ(pos, lseek(self->in, pos, SEEK_SET));
		return xsplice(self->in, NULL, self->p[1], NULL, len, 0);
	case STALE:
		/* Leave pages full of data in the pipe's pool, and elsewhere. */
		junk = malloc(8 * self->page);
		memset(junk, 0xa5, 8 * self->page);
		ASSERT_EQ(8 * self->page,
			  write_full(self->p[1], junk, 8 * self->page));
		ASSERT_EQ(8 * self->page,
			  read_full(self->p[0], junk, 8 * self->page));
		free(junk);
		return write_pattern(self->p[1], len, DATA, pos);
	case WRITTEN:
		len = (len + self->page - 1) / self->page * self->page;
		return write_pattern(self->p[1], len, DATA, pos);
	case SOCKET:
		ASSERT_EQ(len, write_pattern(self->peer, len, DATA, pos));
		return splice_full(self->in, self->p[1], len);
	}
	return -EINVAL;
}

static void expect_size(struct __test_metadata *_metadata,
			struct _test_data_partial *self, enum source source,
			ssize_t len)
{
	ssize_t most = 8 * self->page, sum, part, tail = len % self->page;

	for (sum = 0; sum < len; sum += part) {
		part = len - sum < most ? len - sum : most;
		ASSERT_LE(part, put(_metadata, self, source, part, sum));
		ASSERT_EQ(part, splice_full(self->p[0], self->dev, part)) {
			TH_LOG("%zd of %zd bytes", sum, len);
		}
		while (pipe_bytes(self->p[0]))
			read_pattern(self->p[0], pipe_bytes(self->p[0]), DATA, 0);
	}
	/* What is only in copies is private. */
	dma_buf_expect(_metadata, self->dev, &self->exp, len, tail,
		       source != PAGE_CACHE || len < self->page);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	close(self->exp.fd);
}

TEST_F_TIMEOUT(partial, small, 120)
{
	static const ssize_t sizes[] = {
		1, 2, 100, 2048, 4095, 4096, 4097, 8191, 8192, 12289, 65537,
	};
	int i;

	if (variant->source == SOCKET)
		SKIP(return, "the pages of a socket begin anywhere: see below");
	for (i = 0; i < ARRAY_LEN(sizes); i++)
		expect_size(_metadata, self, variant->source, sizes[i]);
}

/* The largest set, and the same without its last byte. */
TEST_F_TIMEOUT(partial, large, 600)
{
	ssize_t sizes[] = { 1 << 20, DMA_BUF_MOST - 1, DMA_BUF_MOST };
	ssize_t tail;
	int i;

	if (variant->source != PAGE_CACHE)
		SKIP(return, "for the page cache only, because it is slow");
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		tail = sizes[i] % self->page;
		ASSERT_EQ(0, lseek(self->in, 0, SEEK_SET));
		ASSERT_EQ(sizes[i], dma_buf_gather(self->in, self->dev,
						   sizes[i]));
		dma_buf_expect(_metadata, self->dev, &self->exp, sizes[i], tail,
			       false);
		dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
		close(self->exp.fd);
	}
}

/* A message of a socket begins anywhere in a page, and is one page at most. */
TEST_F(partial, message)
{
	static const ssize_t sizes[] = { 1, 100, 2000 };
	int i;

	if (variant->source != SOCKET)
		SKIP(return, "for sockets");
	for (i = 0; i < ARRAY_LEN(sizes); i++)
		expect_size(_metadata, self, SOCKET, sizes[i]);
}

/* Data that begins in the middle of a page, and ends anywhere. */
FIXTURE(first) {
	int dev;
	int p[2];
	int in;
	ssize_t page;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(first) {
	loff_t pos;
	ssize_t len;
	loff_t offset;		/* of the data in the dma-buf */
	ssize_t copied;
	ssize_t pages;
};

FIXTURE_VARIANT_ADD(first, to_the_end_of_a_page) {
	.pos = 100, .len = 3996, .offset = 100, .copied = 3996, .pages = 1,
};

FIXTURE_VARIANT_ADD(first, one_byte_and_a_page) {
	.pos = 4095, .len = 4097, .offset = 4095, .copied = 1, .pages = 2,
};

FIXTURE_VARIANT_ADD(first, both_ends) {
	.pos = 100, .len = 8192, .offset = 100, .copied = 4096, .pages = 3,
};

FIXTURE_VARIANT_ADD(first, within_a_page) {
	.pos = 100, .len = 50, .offset = 0, .copied = 50, .pages = 1,
};

FIXTURE_SETUP(first)
{
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	self->in = make_memfd(_metadata, 16 * self->page, DATA);
	if (self->page != 4096)
		SKIP(return, "the numbers are for pages of 4 KiB");
}

FIXTURE_TEARDOWN(first)
{
}

TEST_F(first, contents)
{
	ASSERT_EQ(variant->pos, lseek(self->in, variant->pos, SEEK_SET));
	ASSERT_EQ(variant->len, dma_buf_gather(self->in, self->dev,
					       variant->len));
	ASSERT_EQ(0, dma_buf_export(self->dev, &self->exp));
	EXPECT_EQ(variant->offset, self->exp.offset);
	EXPECT_EQ(variant->len, self->exp.bytes);
	EXPECT_EQ(variant->copied, self->exp.copied);
	EXPECT_EQ(variant->pages * self->page, self->exp.size);
	dma_buf_expect_data(_metadata, &self->exp, DATA, variant->pos);
}

/* The same through two calls, of which the second one takes whole pages. */
TEST_F(first, continued)
{
	bool closed = (variant->offset + variant->len) % self->page;

	ASSERT_EQ(variant->pos, lseek(self->in, variant->pos, SEEK_SET));
	ASSERT_EQ(variant->len, dma_buf_gather(self->in, self->dev,
					       variant->len));
	ASSERT_EQ(self->page, xsplice(self->in, NULL, self->p[1], NULL,
				      self->page, 0));
	EXPECT_EQ(closed ? -EINVAL : self->page,
		  xsplice(self->p[0], NULL, self->dev, NULL, self->page, 0));
	EXPECT_EQ(closed ? self->page : 0, pipe_bytes(self->p[0]));
	ASSERT_EQ(0, dma_buf_export(self->dev, &self->exp));
	EXPECT_EQ(variant->len + (closed ? 0 : self->page), self->exp.bytes);
	dma_buf_expect_data(_metadata, &self->exp, DATA, variant->pos);
}

/* A partial page in the middle: nothing is taken. */
TEST_F(dma_buf, middle)
{
	char *mem = mmap(NULL, 4 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t sum = 2 * self->page + 100;

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, 4 * self->page, DATA, 0);
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], mem, self->page, 0));
	ASSERT_EQ(100, xvmsplice1(self->p[1], mem + self->page, 100, 0));
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], mem + 2 * self->page,
					 self->page, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->dev, NULL, sum, 0));
	EXPECT_EQ(sum, pipe_bytes(self->p[0]));
	EXPECT_EQ(-ENODATA, dma_buf_export(self->dev, &self->exp));
	/* A page that the caller cuts is the last one. */
	ASSERT_EQ(self->page + 60, xsplice(self->p[0], NULL, self->dev, NULL,
					   self->page + 60, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->dev, NULL, sum, 0));
	EXPECT_EQ(self->page + 40, pipe_bytes(self->p[0]));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page + 60, 60,
		       false);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	/* The data that is left begins the next set. */
	ASSERT_EQ(40, xsplice(self->p[0], NULL, self->dev, NULL, 40, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 40, 40, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, self->page + 60);
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	/* A page that does not begin at its beginning, after another one. */
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], mem + 100, self->page, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->dev, NULL,
				   self->page, 0));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, false);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 2 * self->page);
}

/* What does not fit stays in the pipe. */
TEST_F_TIMEOUT(dma_buf, full, 120)
{
	int file = memfd_create("large", 0);

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, DMA_BUF_MOST));
	ASSERT_EQ(DMA_BUF_MOST - self->page,
		  dma_buf_gather(file, self->dev, DMA_BUF_MOST - self->page));
	ASSERT_EQ(2 * self->page,
		  write_pattern(self->p[1], 2 * self->page, DATA, 0));
	EXPECT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      2 * self->page, 0));
	EXPECT_EQ(-ENOSPC, xsplice(self->p[0], NULL, self->dev, NULL,
				   self->page, 0));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	dma_buf_expect(_metadata, self->dev, &self->exp, DMA_BUF_MOST, 0,
		       false);
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, self->page);
}

/* The charge is that of the user that opened the device. */
TEST_F(dma_buf, memlock)
{
	struct rlimit limit = { 16 * self->page, 16 * self->page };
	/* The charge of a call has two pages more than it takes. */
	ssize_t len = 10 * self->page;
	int second, other;

	second = dma_buf_open(_metadata, 0);
	ASSERT_EQ(0, chmod("/dev/" DMA_BUF_NODE, 0666));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	become(_metadata, 1);
	other = open("/dev/" DMA_BUF_NODE, O_RDWR);
	become(_metadata, 0);
	ASSERT_EQ(0, chmod("/dev/" DMA_BUF_NODE, 0600));
	become(_metadata, 1);
	ASSERT_LE(0, other);

	ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, 0));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, 0));
	EXPECT_EQ(-ENOMEM, xsplice(self->p[0], NULL, second, NULL, len, 0));
	EXPECT_EQ(len, pipe_bytes(self->p[0]));
	EXPECT_EQ(len, xsplice(self->p[0], NULL, other, NULL, len, 0));

	/* It lasts as long as the dma-buf. */
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, true);
	ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, 0));
	EXPECT_EQ(-ENOMEM, xsplice(self->p[0], NULL, second, NULL, len, 0));
	close(self->dev);
	EXPECT_EQ(-ENOMEM, xsplice(self->p[0], NULL, second, NULL, len, 0));
	close(self->exp.fd);
	EXPECT_EQ(len, xsplice(self->p[0], NULL, second, NULL, len, 0));
	dma_buf_expect(_metadata, second, &self->exp, len, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	become(_metadata, 0);
}

/* All of a huge page is charged for a part of it. */
TEST_F(dma_buf, memlock_huge_page)
{
	const char *missing = memory_missing(MEMORY_MEMFD_HUGETLB);
	struct rlimit limit = { 64 * self->page, 64 * self->page };
	struct memory m;

	if (missing)
		SKIP(return, "%s", missing);
	memory_map(_metadata, &m, MEMORY_MEMFD_HUGETLB);
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], m.p, self->page, 0));
	become(_metadata, 1);
	EXPECT_EQ(-ENOMEM, xsplice(self->p[0], NULL, self->dev, NULL,
				   self->page, 0));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	become(_metadata, 0);
	memory_unmap(&m);
	close_all();
	memory_give_back(_metadata, MEMORY_MEMFD_HUGETLB);
}

/* The dma-buf outlives the process that made it. */
TEST_F(dma_buf, exit)
{
	ssize_t held = dma_buf_counter("bytes.held");
	ssize_t len = 4 * self->page;
	int sv[2], fd = -1;
	char ctl[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl, .msg_controllen = sizeof(ctl),
	};
	struct cmsghdr *c;
	char buf;
	pid_t pid;

	ASSERT_LE(0, held);
	make_unix_pair(_metadata, sv);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = dma_buf_open(_metadata, 0);
		int file = make_memfd(_metadata, len, DATA);

		ASSERT_EQ(len, xsendfile(dev, file, NULL, len));
		ASSERT_EQ(0, dma_buf_export(dev, &self->exp));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &self->exp.fd, sizeof(int));
		ASSERT_EQ(1, sendmsg(sv[0], &msg, 0));
		_exit(0);
	}
	iov.iov_base = &buf;
	ASSERT_EQ(1, recvmsg(sv[1], &msg, 0));
	c = CMSG_FIRSTHDR(&msg);
	ASSERT_NE(NULL, c);
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	self->exp = (struct dma_buf_splice_export) {
		.fd = fd, .size = len, .bytes = len,
	};
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	EXPECT_EQ(held + len, dma_buf_counter("bytes.held"));
	close(fd);
	EXPECT_EQ(held, dma_buf_counter("bytes.held"));
}

/* A mapping is a user of the dma-buf, too. */
TEST_F(dma_buf, mapping_alone)
{
	int file = make_memfd(_metadata, self->page, DATA);
	char *mem;

	ASSERT_EQ(self->page, xsendfile(self->dev, file, NULL, self->page));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, false);
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	close(self->exp.fd);
	close(self->dev);
	EXPECT_EQ(-EBUSY, or_errno(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)));
	EXPECT_EQ(self->page, match_pattern(mem, self->page, DATA, 0));
	munmap(mem, self->page);
	expect_unreferenced(_metadata, file);
}

/* Pages that were gathered and never exported. */
TEST_F(dma_buf, closed)
{
	int file = make_memfd(_metadata, 4 * self->page, DATA);

	ASSERT_EQ(4 * self->page,
		  xsendfile(self->dev, file, NULL, 4 * self->page));
	EXPECT_EQ(-EBUSY, or_errno(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)));
	close(self->dev);
	expect_unreferenced(_metadata, file);
}

TEST_F(dma_buf, notification)
{
	char *mem = mmap(NULL, 4 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t len = 4 * self->page;

	ASSERT_NE(MAP_FAILED, mem);
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	fill_pattern(mem, len, DATA, 0);
	ASSERT_EQ(len, xnotify(self->p[1], mem, len));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	EXPECT_EQ(0, released(self->p[1]));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, false);
	close(self->dev);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	EXPECT_EQ(0, released(self->p[1]));
	close(self->exp.fd);
	EXPECT_EQ(1, released(self->p[1]));
}

TEST_F(dma_buf, module)
{
	const char *fixed = module_is_fixed(DMA_BUF_MODULE);

	if (fixed)
		SKIP(return, "%s", fixed);
	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
	close(self->dev);
	EXPECT_EQ(-EAGAIN, unload_module(DMA_BUF_MODULE));
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	close(self->exp.fd);
	EXPECT_EQ(0, unload_module(DMA_BUF_MODULE));
	EXPECT_TRUE(have_dma_buf());
}

/* Memory of all kinds. */
FIXTURE(memory) {
	struct memory m;
	int dev;
	int p[2];
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(memory) {
	enum memory_kind kind;
	bool copied;
};

FIXTURE_VARIANT_ADD(memory, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(memory, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(memory, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(memory, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(memory, tmpfs) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(memory, tmpfs_large) {
	.kind = MEMORY_TMPFS_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(memory, ext4) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(memory, ksm) {
	.kind = MEMORY_KSM,
};

/* This memory must stay movable, so it is not held. */
FIXTURE_VARIANT_ADD(memory, movable) {
	.kind = MEMORY_MOVABLE, .copied = true,
};

FIXTURE_SETUP(memory)
{
	const char *missing;

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	missing = memory_missing(variant->kind);
	if (missing)
		SKIP(return, "%s", missing);
	self->dev = dma_buf_open(_metadata, 0);
	make_pipe(_metadata, self->p);
	ASSERT_LE(MEMORY_SIZE, fcntl(self->p[1], F_SETPIPE_SZ, MEMORY_SIZE));
	memory_map(_metadata, &self->m, variant->kind);
}

FIXTURE_TEARDOWN(memory)
{
	memory_unmap(&self->m);
	close_all();
	memory_give_back(_metadata, variant->kind);
}

TEST_F_TIMEOUT(memory, vmsplice, 120)
{
	ASSERT_EQ(MEMORY_SIZE, xvmsplice1(self->p[1], self->m.p, MEMORY_SIZE,
					  0));
	ASSERT_EQ(MEMORY_SIZE, splice_full(self->p[0], self->dev, MEMORY_SIZE));
	dma_buf_expect(_metadata, self->dev, &self->exp, MEMORY_SIZE,
		       variant->copied ? MEMORY_SIZE : 0, variant->copied);
	dma_buf_expect_data(_metadata, &self->exp, MEMORY_DATA, 0);
	if (!variant->copied)
		expect_read_only(_metadata, &self->exp);
}

TEST_HARNESS_MAIN
