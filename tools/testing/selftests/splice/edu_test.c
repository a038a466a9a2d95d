// SPDX-License-Identifier: GPL-2.0
/*
 * Data through a device with a DMA engine: the device reads pages of every kind
 * directly from the pipe, and writes to pages of its driver, which then move
 * through pipes.
 */
#include "edu_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

/* Two buffers, the second one partly filled. */
#define SOME 5000

FIXTURE(edu) {
	int fd;
	int p[2];		/* to the device */
	int q[2];		/* from the device */
};

FIXTURE_SETUP(edu)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	self->fd = edu_open_empty(_metadata, 0);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(edu)
{
}

TEST_F_TIMEOUT(edu, sizes, 60)
{
	static const ssize_t sizes[] = { 1, 2, 4095, 4096, 4097, 65536 };
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		edu_send(_metadata, self->fd, self->p, sizes[i], DATA, i);
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		EXPECT_EQ(sizes[i], receive_pattern(self->fd, sizes[i], DATA, i));
	}
	edu_expect_empty(_metadata, self->fd);
}

/* A call returns the data that is available, and does not wait for more. */
TEST_F(edu, short_count)
{
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(100, xsplice(self->fd, NULL, self->q[1], NULL, 65536, 0));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* The next call returns the rest of a page that was read partly. */
TEST_F(edu, page_in_parts)
{
	edu_send(_metadata, self->fd, self->p, EDU_PAGE, DATA, 0);
	ASSERT_EQ(1, receive_pattern(self->fd, 1, DATA, 0));
	ASSERT_EQ(100, xsplice(self->fd, NULL, self->q[1], NULL, 100, 0));
	ASSERT_EQ(EDU_PAGE - 101,
		  xsplice(self->fd, NULL, self->q[1], NULL, EDU_PAGE, 0));
	EXPECT_EQ(EDU_PAGE - 1, read_pattern(self->q[0], EDU_PAGE - 1, DATA,
					     1));
	edu_expect_empty(_metadata, self->fd);
}

/* A call may send a part of the data in the pipe. */
TEST_F(edu, buffers_in_parts)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->fd, NULL, 100, 0));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->p[0]));
	ASSERT_EQ(4400, xsplice(self->p[0], NULL, self->fd, NULL, 4400, 0));
	ASSERT_EQ(400, read_pattern(self->p[0], 400, DATA, 4500));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(4500, receive_pattern(self->fd, 4500, DATA, 0));
	EXPECT_EQ(100, receive_pattern(self->fd, 100, DATA, 4900));
}

/* More buffers than fit into one request. */
TEST_F_TIMEOUT(edu, small_buffers, 180)
{
	char *mem = alloc_pattern(_metadata, 260, DATA);
	ssize_t ret;
	int i;

	ASSERT_LE(512 * page_size(),
		  fcntl(self->p[1], F_SETPIPE_SZ, 512 * page_size()));
	for (i = 0; i < 260; i++)
		ASSERT_EQ(1, xvmsplice1(self->p[1], mem + i, 1, 0));
	ret = xsplice(self->p[0], NULL, self->fd, NULL, 260, 0);
	ASSERT_LT(0, ret);
	EXPECT_GE(256, ret);
	EXPECT_EQ(260 - ret, pipe_bytes(self->p[0]));
	ASSERT_EQ(260 - ret, splice_full(self->p[0], self->fd, 260 - ret));
	EXPECT_EQ(260, receive_pattern(self->fd, 260, DATA, 0));
	free(mem);
}

/* From a file through the device to a file, from every offset. */
FIXTURE(file) {
	int fd;
	int in;
	int out;
};

FIXTURE_VARIANT(file) {
	enum end_kind kind;
	ssize_t len;
	loff_t offset;
};

FIXTURE_VARIANT_ADD(file, ext4) {
	.kind = END_EXT4, .len = 200 * 1024 + 123,
};

FIXTURE_VARIANT_ADD(file, ext4_offset_1) {
	.kind = END_EXT4, .len = 12000, .offset = 1,
};

FIXTURE_VARIANT_ADD(file, ext4_offset_4095) {
	.kind = END_EXT4, .len = 12000, .offset = 4095,
};

FIXTURE_VARIANT_ADD(file, ext4_offset_5000) {
	.kind = END_EXT4, .len = 12000, .offset = 5000,
};

FIXTURE_VARIANT_ADD(file, tmpfs) {
	.kind = END_TMPFS, .len = 1 << 20,
};

FIXTURE_VARIANT_ADD(file, tmpfs_offset_5000) {
	.kind = END_TMPFS, .len = 12000, .offset = 5000,
};

FIXTURE_SETUP(file)
{
	const char *missing = end_missing(variant->kind);
	const char *dir;

	if (!have_edu(0))
		SKIP(return, NO_EDU);
	if (missing)
		SKIP(return, "%s is not set", missing);
	dir = end_dir(_metadata, variant->kind);
	self->in = make_file(_metadata, dir);
	self->out = make_file(_metadata, dir);
	ASSERT_EQ(variant->offset + variant->len,
		  write_pattern(self->in, variant->offset + variant->len, DATA,
				0));
	ASSERT_EQ(variant->offset,
		  lseek(self->in, variant->offset, SEEK_SET));
	self->fd = edu_open_empty(_metadata, 0);
}

FIXTURE_TEARDOWN(file)
{
}

TEST_F_TIMEOUT(file, splice, 300)
{
	struct relay out = {
		.in = self->in, .out = self->fd, .len = variant->len,
	};

	relay_start(_metadata, &out);
	EXPECT_EQ(variant->len, relay_bytes(self->fd, self->out, variant->len));
	EXPECT_EQ(variant->len, relay_finish(_metadata, &out));
	expect_file(_metadata, self->out, variant->len, DATA, variant->offset);
}

TEST_F_TIMEOUT(file, sendfile, 120)
{
	ssize_t len = variant->len < 40000 ? variant->len : 40000;
	struct job job = job_sendfile(self->fd, self->in, len);

	job_start(_metadata, &job);
	EXPECT_EQ(len, receive_pattern(self->fd, len, DATA, variant->offset));
	EXPECT_EQ(len, job_finish(_metadata, &job));
	EXPECT_EQ(variant->offset + len, lseek(self->in, 0, SEEK_CUR));
}

/* Data from a network, in buffers of the network stack. */
TEST_F_TIMEOUT(edu, sockets, 60)
{
	static const enum end_kind kinds[] = { END_TCP, END_UNIX };
	ssize_t len = 30000;
	struct end end;
	int i;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		end_open(_metadata, kinds[i], true, &end);
		ASSERT_EQ(len, write_pattern(end.peer, len, DATA, i));
		ASSERT_EQ(len, relay_bytes(end.fd, self->fd, len));
		EXPECT_EQ(len, receive_pattern(self->fd, len, DATA, i));
	}
}

/* A buffer of many pages, from every offset into the first page. */
TEST_F_TIMEOUT(edu, huge_pages, 120)
{
	static const enum memory_kind kinds[] = { MEMORY_THP, MEMORY_HUGETLB };
	static const ssize_t offsets[] = { 0, 100, 4095 };
	const char *missing;
	struct memory m;
	ssize_t len;
	int i, j;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		missing = memory_missing(kinds[i]);
		if (missing)
			SKIP(return, "%s", missing);
		memory_map(_metadata, &m, kinds[i]);
		for (j = 0; j < ARRAY_LEN(offsets); j++) {
			len = (j ? 20000 : 65536) - offsets[j];
			ASSERT_EQ(len, xvmsplice1(self->p[1], m.p + offsets[j],
						  len, 0));
			/* Only a part of the data at first. */
			ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd,
						NULL, SOME, 0));
			ASSERT_EQ(len - SOME,
				  xsplice(self->p[0], NULL, self->fd, NULL,
					  len, 0));
			EXPECT_EQ(len, receive_pattern(self->fd, len, MEMORY_DATA,
						       offsets[j]));
		}
		memory_unmap(&m);
		memory_give_back(_metadata, kinds[i]);
	}
	expect_no_pins(_metadata);
}

/* The device reads one of two references, and a program the other. */
TEST_F(edu, tee)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

/* Pages of the device are sent to the device again. */
TEST_F(edu, round_twice)
{
	edu_send(_metadata, self->fd, self->p, SOME, DATA, 0);
	ASSERT_EQ(SOME, relay_bytes(self->fd, self->fd, SOME));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

/* Memory of a process that has exited; all pages of the device are in use. */
TEST_F(edu, exited_process)
{
	int status;
	pid_t pid;

	edu_stall(_metadata, self->fd, self->p);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = alloc_pattern(_metadata, SOME, DATA);

		if (xvmsplice1(self->p[1], mem, SOME, 0) != SOME ||
		    xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0) != SOME)
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	expect_no_pins(_metadata);
}

/*
 * The notification comes when the device has read the memory, and not earlier.
 */
TEST_F(edu, notices)
{
	char *mem = alloc_pattern(_metadata, SOME, FILLER);

	if (xnotify(self->p[1], mem, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	edu_wait_stalled(_metadata, 0);
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));

	/* The device reads this memory and not a copy of it. */
	fill_pattern(mem, SOME, DATA, 0);
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(1, wait_released(self->p[1], 1));
	fill_pattern(mem, SOME, FILLER, 0);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	expect_no_pins(_metadata);
	free(mem);
}

/*
 * All pages are in pipes: the device stops, and goes on when a page is
 * released.
 */
TEST_F_TIMEOUT(edu, pages_run_out, 120)
{
	ssize_t sent = 40 * EDU_PAGE, got = 0, ret;
	int r[2];

	make_pipe(_metadata, r);
	ASSERT_LT(0, fcntl(self->q[1], F_SETPIPE_SZ, 64 * page_size()));
	ASSERT_LT(0, fcntl(r[1], F_SETPIPE_SZ, 64 * page_size()));
	edu_send(_metadata, self->fd, self->p, sent / 4, DATA, 0);
	edu_send(_metadata, self->fd, self->p, sent / 4, DATA, sent / 4);
	edu_send(_metadata, self->fd, self->p, sent / 4, DATA, sent / 2);
	edu_send(_metadata, self->fd, self->p, sent / 4, DATA, sent / 4 * 3);
	while (poll_for(self->fd, POLLIN, QUIET) == POLLIN) {
		ret = xsplice(self->fd, NULL, self->q[1], NULL, sent, 0);
		ASSERT_LT(0, ret);
		got += ret;
	}
	EXPECT_EQ(EDU_PAGES * EDU_PAGE, got);
	ASSERT_EQ(got, xtee(self->q[0], r[1], got, 0));

	/* A page is released when its last reader has released it. */
	ASSERT_EQ(EDU_PAGE, read_pattern(self->q[0], EDU_PAGE, DATA, 0));
	EXPECT_EQ(0, poll_for(self->fd, POLLIN, QUIET));
	ASSERT_EQ(EDU_PAGE, read_pattern(r[0], EDU_PAGE, DATA, 0));
	EXPECT_EQ(POLLIN, poll_for(self->fd, POLLIN, -1));

	EXPECT_EQ(got - EDU_PAGE, read_pattern(r[0], got - EDU_PAGE, DATA,
					       EDU_PAGE));
	EXPECT_EQ(got - EDU_PAGE, read_pattern(self->q[0], got - EDU_PAGE, DATA,
					       EDU_PAGE));
	EXPECT_EQ(sent - got, receive_pattern(self->fd, sent - got, DATA, got));
	edu_expect_empty(_metadata, self->fd);
}

/* Pages that a socket keeps are replaced by new ones. */
TEST_F_TIMEOUT(edu, pages_lost, 120)
{
	ssize_t part = 10 * EDU_PAGE, len = 4 * part, got = 0, sent = 0, ret;
	int sv[2], i;

	make_tcp_pair(_metadata, sv);
	ASSERT_LT(0, fcntl(self->q[1], F_SETPIPE_SZ, 64 * page_size()));
	for (i = 0; i < 4; i++)
		edu_send(_metadata, self->fd, self->p, part, DATA, i * part);
	while (got < len) {
		ret = xsplice(self->fd, NULL, self->q[1], NULL, len - got, 0);
		ASSERT_LT(0, ret);
		got += ret;
		for (; sent < got; sent += ret) {
			ret = xsplice(self->q[0], NULL, sv[0], NULL, got - sent,
				      0);
			ASSERT_LT(0, ret);
		}
	}
	/* Nobody has read this data yet, and the device goes on. */
	edu_send(_metadata, self->fd, self->p, SOME, FILLER, 0);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, FILLER, 0));
	EXPECT_EQ(len, read_pattern(sv[1], len, DATA, 0));
	close(sv[0]);
	close(sv[1]);
}

/* The pages keep their data after the last close() of the device. */
TEST_F(edu, pages_after_close)
{
	edu_send(_metadata, self->fd, self->p, SOME, DATA, 0);
	while (pipe_bytes(self->q[0]) < SOME)
		ASSERT_LT(0, xsplice(self->fd, NULL, self->q[1], NULL, SOME,
				     0));
	close(self->fd);
	self->fd = edu_open(_metadata, 0, O_RDWR);
	edu_send(_metadata, self->fd, self->p, SOME, FILLER, 0);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, FILLER, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
}

/* The counters of DMA match to the byte, and no byte was copied. */
TEST_F(edu, counters)
{
	static const char * const copied[] = {
		"bytes.file_to_pipe.copied", "bytes.pipe_to_file.copied",
		"bytes.pipe_to_socket.copied", "bytes.memory_to_pipe.copied",
		"bytes.pipe_to_memory.copied",
	};
	static const char * const names[] = {
		"requests.out", "bytes.dma.out", "bytes.dma.in",
		"descriptors.out", "descriptors.in", "bytes.copied", "errors",
		"in_flight.max",
	};
	char *mem = alloc_pattern(_metadata, SOME, DATA);
	ssize_t core[ARRAY_LEN(copied)], c[ARRAY_LEN(names)];
	int i;

	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	for (i = 0; i < ARRAY_LEN(copied); i++)
		core[i] = read_counter(copied[i]);
	for (i = 0; i < ARRAY_LEN(names); i++) {
		c[i] = node_counter(edu_node(0), names[i]);
		ASSERT_LE(0, c[i]) {
			TH_LOG("%s", names[i]);
		}
	}
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], mem, SOME, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	ASSERT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	for (i = 0; i < ARRAY_LEN(copied); i++) {
		EXPECT_EQ(core[i], read_counter(copied[i])) {
			TH_LOG("%s", copied[i]);
		}
	}
	for (i = 0; i < ARRAY_LEN(names); i++)
		c[i] = node_counter(edu_node(0), names[i]) - c[i];
	EXPECT_EQ(1, c[0]);
	EXPECT_EQ(SOME, c[1]);
	EXPECT_EQ(SOME, c[2]);
	EXPECT_LT(0, c[3]);
	EXPECT_LT(0, c[4]);
	EXPECT_EQ(0, c[5]);
	EXPECT_EQ(0, c[6]);
	EXPECT_LE(1, node_counter(edu_node(0), "in_flight.max"));
	EXPECT_GE(EDU_REQUESTS, node_counter(edu_node(0), "in_flight.max"));
	free(mem);
}

/* Calls that fail take nothing out of the pipe or the device. */
TEST_F(edu, errors)
{
	int file = make_memfd(_metadata, SOME, DATA);
	int fd = self->fd, *p = self->p, *q = self->q, other;
	loff_t off = 0;
	char c = 0;

	edu_send(_metadata, fd, p, 1, FILLER, 0);
	ASSERT_EQ(SOME, write_pattern(p[1], SOME, DATA, 0));
	ASSERT_EQ(POLLIN, poll_for(fd, POLLIN, -1));

	EXPECT_EQ(-EINVAL, xread(fd, &c, 1));
	EXPECT_EQ(-EINVAL, xwrite(fd, &c, 1));
	EXPECT_EQ(-ESPIPE, or_errno(lseek(fd, 0, SEEK_SET)));
	EXPECT_EQ(-ESPIPE, or_errno(lseek(fd, 0, SEEK_CUR)));
	EXPECT_EQ(-ESPIPE, xsplice(p[0], NULL, fd, &off, SOME, 0));
	EXPECT_EQ(-ESPIPE, xsplice(fd, &off, q[1], NULL, SOME, 0));
	EXPECT_EQ(-ESPIPE, xsendfile(q[1], fd, &off, SOME));
	EXPECT_EQ(0, xsplice(p[0], NULL, fd, NULL, 0, 0));
	EXPECT_EQ(0, xsplice(fd, NULL, q[1], NULL, 0, 0));
	EXPECT_EQ(-EBADF, xsplice(p[1], NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(-EBADF, xsplice(fd, NULL, q[0], NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(p[0], NULL, fd, NULL, SOME, 0x80));
	EXPECT_EQ(-EINVAL, xsplice(fd, NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(file, NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xtee(p[0], fd, SOME, 0));
	/* The data would be lost, because it cannot be delivered. */
	EXPECT_EQ(-EINVAL, xsendfile(file, fd, NULL, SOME));
	EXPECT_EQ(-EINVAL, xcopy_file_range(file, NULL, fd, NULL, SOME, 0));

	other = edu_open(_metadata, 0, O_RDONLY);
	EXPECT_EQ(-EBADF, xsplice(p[0], NULL, other, NULL, SOME, 0));
	EXPECT_EQ(-EBADF, xsendfile(other, file, NULL, SOME));
	other = edu_open(_metadata, 0, O_WRONLY);
	EXPECT_EQ(-EBADF, xsplice(other, NULL, q[1], NULL, SOME, 0));
	other = edu_open(_metadata, 0, O_WRONLY | O_APPEND);
	EXPECT_EQ(-EINVAL, xsplice(p[0], NULL, other, NULL, SOME, 0));

	EXPECT_EQ(0, off);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(0, pipe_bytes(q[0]));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
	EXPECT_EQ(1, receive_pattern(fd, 1, FILLER, 0));
}

TEST_F(edu, pipe_without_reader)
{
	edu_send(_metadata, self->fd, self->p, SOME, DATA, 0);
	ASSERT_EQ(POLLIN, poll_for(self->fd, POLLIN, -1));
	close(self->q[0]);
	catch_signal(_metadata, SIGPIPE, 0);
	EXPECT_EQ(-EPIPE, xsplice(self->fd, NULL, self->q[1], NULL, SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

TEST_F(edu, pipe_without_writer)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	close(self->p[1]);
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, 65536, 0));
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->fd, NULL, 65536, 0));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

/* Two independent devices. */
FIXTURE(both) {
	int fd[2];
	int p[2][2];
};

FIXTURE_SETUP(both)
{
	int i;

	if (!have_edu(1))
		SKIP(return, "one PCI device 1234:11e8 only, or none");
	for (i = 0; i < 2; i++) {
		self->fd[i] = edu_open_empty(_metadata, i);
		make_pipe(_metadata, self->p[i]);
	}
}

FIXTURE_TEARDOWN(both)
{
}

/* Both devices read the same page. */
TEST_F(both, tee)
{
	int i;

	ASSERT_EQ(SOME, write_pattern(self->p[0][1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xtee(self->p[0][0], self->p[1][1], SOME, 0));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(SOME, xsplice(self->p[i][0], NULL, self->fd[i], NULL,
					SOME, 0));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(SOME, receive_pattern(self->fd[i], SOME, DATA, 0));
}

/* The second device reads pages that the first one has written. */
TEST_F_TIMEOUT(both, chain, 60)
{
	ssize_t len = 20000;

	edu_send(_metadata, self->fd[0], self->p[0], len, DATA, 0);
	ASSERT_EQ(len, relay_bytes(self->fd[0], self->fd[1], len));
	EXPECT_EQ(len, receive_pattern(self->fd[1], len, DATA, 0));
}

TEST_F_TIMEOUT(both, threads, 120)
{
	ssize_t len = 128 * 1024;
	struct relay out[2], in[2];
	int file[2], i;

	for (i = 0; i < 2; i++) {
		file[i] = memfd_create("splice", 0);
		ASSERT_LE(0, file[i]);
		out[i] = (struct relay) {
			.in = make_memfd(_metadata, len, DATA + i),
			.out = self->fd[i], .len = len,
		};
		in[i] = (struct relay) {
			.in = self->fd[i], .out = file[i], .len = len,
		};
		relay_start(_metadata, &out[i]);
		relay_start(_metadata, &in[i]);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(len, relay_finish(_metadata, &out[i]));
		EXPECT_EQ(len, relay_finish(_metadata, &in[i]));
		expect_file(_metadata, file[i], len, DATA + i, 0);
		expect_unreferenced(_metadata, out[i].in);
	}
}

TEST_HARNESS_MAIN
