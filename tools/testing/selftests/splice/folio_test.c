// SPDX-License-Identifier: GPL-2.0
/*
 * splice() from the page cache where a folio has many pages: the pipe has one
 * buffer for a contiguous range of it, but as many bytes, and the same ones, as
 * with a buffer for each page.
 */

#include "splice_common.h"
#include "splice_memory.h"

#define OLD	1
#define NEW	2

FIXTURE(folio) {
	int fd;
	int p[2];
	int q[2];
	char *mem;
	ssize_t page;
};

FIXTURE_VARIANT(folio) {
	enum memory_kind kind;
	bool small;
};

FIXTURE_VARIANT_ADD(folio, tmpfs_huge) {
	.kind = MEMORY_TMPFS_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(folio, tmpfs_small) {
	.small = true,
};

FIXTURE_VARIANT_ADD(folio, ext4) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_SETUP(folio)
{
	self->page = page_size();
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	ASSERT_LE(MEMORY_SIZE / 2, fcntl(self->p[1], F_SETPIPE_SZ,
					 MEMORY_SIZE / 2));
	ASSERT_LE(MEMORY_SIZE / 2, fcntl(self->q[1], F_SETPIPE_SZ,
					 MEMORY_SIZE / 2));
	self->mem = malloc(MEMORY_SIZE);
	ASSERT_NE(NULL, self->mem);
	if (variant->small) {
		self->fd = make_memfd(_metadata, MEMORY_SIZE, OLD);
		return;
	}
	if (!have_large_file(variant->kind))
		SKIP(return, "no large folios in the page cache");
	self->fd = open_large_file(variant->kind);
	ASSERT_LE(0, self->fd);
	/* In place: the folios stay as they are. */
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	ASSERT_EQ(MEMORY_SIZE, write_pattern(self->fd, MEMORY_SIZE, OLD, 0));
}

FIXTURE_TEARDOWN(folio)
{
	free(self->mem);
}

/* Returns the number of buffers in a pipe, or -ENOENT on a stock kernel. */
static ssize_t nr_buffers(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_line_of(path, "pipe-buffers:");
}

TEST_F(folio, one_buffer_for_a_range)
{
	loff_t off = 3 * self->page + 10;
	ssize_t len = 100 * self->page, n;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	n = nr_buffers(self->p[0]);
	if (n < 0)
		XFAIL(return, "stock splice has a buffer for each page");
	EXPECT_EQ(variant->small ? 101 : 1, n);
	EXPECT_EQ(len, pipe_bytes(self->p[0]));

	/* tee() and splice() move the buffer as it is. */
	ASSERT_EQ(len, xtee(self->p[0], self->q[1], len, 0));
	EXPECT_EQ(n, nr_buffers(self->q[0]));
	EXPECT_EQ(len, read_pattern(self->q[0], len, OLD, 3 * self->page + 10));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->q[1], NULL, len, 0));
	EXPECT_EQ(n, nr_buffers(self->q[0]));
	EXPECT_EQ(len, read_pattern(self->q[0], len, OLD, 3 * self->page + 10));
}

/* How many bytes fit depends on the pages, not on the buffers. */
TEST_F_TIMEOUT(folio, as_many_bytes_as_pages_fit, 300)
{
	ssize_t slots, first, want, n;
	loff_t off, pos;

	for (slots = 1; slots <= 256; slots *= 2) {
		ASSERT_EQ(slots * self->page, fcntl(self->p[1], F_SETPIPE_SZ,
						    slots * self->page));
		for (off = 0; off < 3 * self->page; off += 1000) {
			pos = off;
			first = self->page - off % self->page;
			want = first + (slots - 1) * self->page;
			ASSERT_EQ(want, xsplice(self->fd, &off, self->p[1],
						NULL, MEMORY_SIZE, 0));
			ASSERT_EQ(pos + want, off);
			EXPECT_EQ(-EAGAIN,
				  xsplice(self->fd, &off, self->p[1], NULL, 1,
					  SPLICE_F_NONBLOCK));
			EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
			/* One page is free when its last byte was read. */
			n = read_pattern(self->p[0], first - 1, OLD, pos);
			ASSERT_EQ(first - 1, n);
			EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
			ASSERT_EQ(1, read_pattern(self->p[0], 1, OLD,
						  pos + first - 1));
			EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
			ASSERT_EQ(want - first,
				  read_pattern(self->p[0], want - first, OLD,
					       pos + first));
			off = pos;
		}
	}
}

/* Lengths and offsets at which folios, pages and the file begin and end. */
TEST_F_TIMEOUT(folio, ends_of_folios_and_files, 300)
{
	static const ssize_t near[] = { -4097, -4096, -1, 0, 1, 4095, 4096 };
	ssize_t size = MEMORY_SIZE / 4 + 5, want, n;
	size_t i, j;

	ASSERT_EQ(0, ftruncate(self->fd, size));
	for (i = 0; i < ARRAY_SIZE(near); i++) {
		for (j = 0; j < ARRAY_SIZE(near); j++) {
			loff_t off = 16 * self->page + near[i], pos = off;
			ssize_t len = size - off + near[j];

			want = len < size - off ? len : size - off;
			n = xsplice(self->fd, &off, self->p[1], NULL, len, 0);
			ASSERT_EQ(want, n);
			ASSERT_EQ(pos + want, off);
			ASSERT_EQ(want, read_pattern(self->p[0], want, OLD,
						     pos));
			/* At the end of the file, and after it. */
			off = size + (near[j] > 0 ? near[j] : 0);
			EXPECT_EQ(0, xsplice(self->fd, &off, self->p[1], NULL,
					     len, SPLICE_F_NONBLOCK));
		}
	}
}

/* write(2) does not append to the last page of a folio. */
TEST_F(folio, write_after_it)
{
	loff_t off = 0;

	ASSERT_EQ(5 * self->page + 100,
		  xsplice(self->fd, &off, self->p[1], NULL,
			  5 * self->page + 100, 0));
	ASSERT_EQ(50, write_pattern(self->p[1], 50, NEW, 0));
	ASSERT_EQ(5 * self->page + 100,
		  read_pattern(self->p[0], 5 * self->page + 100, OLD, 0));
	EXPECT_EQ(50, read_pattern(self->p[0], 50, NEW, 0));
	ASSERT_EQ(MEMORY_SIZE, pread(self->fd, self->mem, MEMORY_SIZE, 0));
	EXPECT_EQ(MEMORY_SIZE, match_pattern(self->mem, MEMORY_SIZE, OLD, 0));
}

/*
 * The file changes while its pages are in a pipe, half read. The pipe shows
 * what the page cache had, or has: never anything else, and never less.
 */
static void expect_old_or(struct __test_metadata *_metadata,
			  struct _test_data_folio *self, ssize_t len,
			  loff_t pos, unsigned int seed)
{
	ssize_t i;

	ASSERT_EQ(len, read_full(self->p[0], self->mem, len));
	for (i = 0; i < len; i++) {
		char c = self->mem[i];

		if (c == pattern_byte(OLD, pos + i))
			continue;
		if (c == (seed ? pattern_byte(seed, pos + i) : 0))
			continue;
		ASSERT_EQ(-1, i) {
			TH_LOG("byte %zd is %d", i, c);
		}
	}
}

TEST_F(folio, truncated)
{
	ssize_t len = 100 * self->page;
	loff_t off = 0;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	ASSERT_EQ(self->page + 7, read_pattern(self->p[0], self->page + 7, OLD,
					       0));
	ASSERT_EQ(0, ftruncate(self->fd, 50 * self->page + 9));
	expect_old_or(_metadata, self, len - self->page - 7, self->page + 7, 0);
}

TEST_F(folio, hole_punched)
{
	ssize_t len = 100 * self->page;
	loff_t off = 0;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	ASSERT_EQ(len, xtee(self->p[0], self->q[1], len, 0));
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE |
			       FALLOC_FL_KEEP_SIZE, 10 * self->page,
			       30 * self->page));
	expect_old_or(_metadata, self, len, 0, 0);
	/* The file has the hole, and nothing holds its pages any more. */
	ASSERT_EQ(len, read_full(self->q[0], self->mem, len));
	ASSERT_EQ(len, pread(self->fd, self->mem, len, 0));
	EXPECT_EQ(10 * self->page,
		  match_pattern(self->mem, 10 * self->page, OLD, 0));
	EXPECT_EQ(30 * self->page,
		  match_byte(self->mem + 10 * self->page, 30 * self->page, 0));
	EXPECT_EQ(60 * self->page,
		  match_pattern(self->mem + 40 * self->page, 60 * self->page,
				OLD, 40 * self->page));
}

TEST_F(folio, overwritten)
{
	ssize_t len = 100 * self->page;
	loff_t off = 0;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	fill_pattern(self->mem, len, NEW, 0);
	ASSERT_EQ(len, pwrite(self->fd, self->mem, len, 0));
	/* By reference: the pipe shows the write. */
	EXPECT_EQ(len, read_pattern(self->p[0], len, NEW, 0));
}

/* The process drops the file and its page cache. */
TEST_F(folio, file_is_gone)
{
	ssize_t len = 100 * self->page;
	loff_t off = 0;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	ASSERT_EQ(0, close(self->fd));
	write_text("/proc/sys/vm/drop_caches", "3");
	EXPECT_EQ(len, read_pattern(self->p[0], len, OLD, 0));
}

/* Each kind of end takes all bytes of the folio, in any number of calls. */
static void move_to(struct __test_metadata *_metadata,
		    struct _test_data_folio *self, int out, int peer,
		    ssize_t step)
{
	ssize_t len = 64 * self->page, moved, n;
	loff_t off = 5;

	ASSERT_EQ(len, xsplice(self->fd, &off, self->p[1], NULL, len, 0));
	for (moved = 0; moved < len; moved += n) {
		n = xsplice(self->p[0], NULL, out, NULL, step, 0);
		ASSERT_LT(0, n);
		if (peer < 0)
			continue;
		ASSERT_EQ(n, receive_pattern(peer, n, OLD, 5 + moved));
	}
}

TEST_F(folio, to_tcp)
{
	int sv[2];

	make_tcp_pair(_metadata, sv);
	move_to(_metadata, self, sv[0], sv[1], 3 * self->page + 11);
	move_to(_metadata, self, sv[0], sv[1], self->page);
}

TEST_F(folio, to_unix)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	move_to(_metadata, self, sv[0], sv[1], 3 * self->page + 11);
	move_to(_metadata, self, sv[0], sv[1], self->page);
}

/*
 * A pipe takes from a socket as many pages of a folio as it has slots, however
 * many of them are in one fragment.
 */
static void through_socket(struct __test_metadata *_metadata,
			   struct _test_data_folio *self, int out, int in)
{
	ssize_t sent, moved, n;
	loff_t off = 5;

	ASSERT_EQ(4 * self->page, fcntl(self->q[1], F_SETPIPE_SZ,
					4 * self->page));
	sent = xsplice(self->fd, &off, self->p[1], NULL, 16 * self->page - 5,
		       0);
	ASSERT_EQ(16 * self->page - 5, sent);
	ASSERT_EQ(sent, xsplice(self->p[0], NULL, out, NULL, sent, 0));
	for (moved = 0; moved < sent; moved += n) {
		n = xsplice(in, NULL, self->q[1], NULL, MEMORY_SIZE, 0);
		ASSERT_LT(0, n);
		EXPECT_GE(4 * self->page, n);
		EXPECT_EQ(n, pipe_bytes(self->q[0]));
		if (!moved)
			EXPECT_EQ(4 * self->page - 5, n);
		ASSERT_EQ(n, read_pattern(self->q[0], n, OLD, 5 + moved));
	}
}

TEST_F(folio, tcp_to_pipe)
{
	int sv[2];

	make_tcp_pair(_metadata, sv);
	through_socket(_metadata, self, sv[0], sv[1]);
}

TEST_F(folio, unix_to_pipe)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	through_socket(_metadata, self, sv[0], sv[1]);
}

TEST_F(folio, to_file)
{
	int fd = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ssize_t len = 64 * self->page;

	move_to(_metadata, self, fd, -1, 7 * self->page + 13);
	ASSERT_EQ(len, pread(fd, self->mem, MEMORY_SIZE, 0));
	EXPECT_EQ(len, match_pattern(self->mem, len, OLD, 5));
}

TEST_F(folio, sendfile)
{
	int fd = make_file(_metadata, end_dir(_metadata, END_EXT4));
	loff_t off = 0;

	ASSERT_EQ(MEMORY_SIZE, xsendfile(fd, self->fd, &off, MEMORY_SIZE));
	ASSERT_EQ(MEMORY_SIZE, pread(fd, self->mem, MEMORY_SIZE, 0));
	EXPECT_EQ(MEMORY_SIZE, match_pattern(self->mem, MEMORY_SIZE, OLD, 0));
}

TEST_HARNESS_MAIN
