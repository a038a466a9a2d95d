// SPDX-License-Identifier: GPL-2.0
/*
 * Sources and sinks other than a buffered regular file: direct I/O, block
 * devices, overlayfs, small and large folios, trace_pipe, terminals and files
 * of /proc; and file systems that are full.
 */
#include "splice_common.h"

#include <linux/kernel-page-flags.h>
#include <linux/loop.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <termios.h>

/* Whole sectors of every sector size, in several buffers. */
#define SIZE 131072
#define BLOCK 4096

#define DATA 1
#define OTHER 2

/* Bits of /proc/PID/pagemap and /proc/kpageflags. */
#define PAGEMAP_FRAME 0x007fffffffffffffULL
#define PAGEMAP_PRESENT 0x8000000000000000ULL

enum place {
	EXT4_DIRECT,
	LOOP,
	LOOP_DIRECT,
	OVERLAY,		/* the file is on the lower layer */
	OVERLAY_UPPER,		/* it has been copied up */
	EXT4_PAGES,		/* in the page cache, in folios of one page */
	EXT4_FOLIOS,		/* in the page cache, in folios of many pages */
	TMPFS_PAGES,
	TMPFS_FOLIOS,
	HOLE,			/* at 5 GiB */
};

/* A file with SIZE bytes of data from @start on, and a pipe. */
FIXTURE(place) {
	int fd;
	int lower;		/* the lower file, which overlayfs must not write to */
	loff_t start;
	int p[2];
	char *mem;		/* SIZE bytes, aligned */
};

FIXTURE_VARIANT(place) {
	enum place place;
};

FIXTURE_VARIANT_ADD(place, ext4_direct) {
	.place = EXT4_DIRECT,
};

FIXTURE_VARIANT_ADD(place, loop) {
	.place = LOOP,
};

FIXTURE_VARIANT_ADD(place, loop_direct) {
	.place = LOOP_DIRECT,
};

FIXTURE_VARIANT_ADD(place, overlay) {
	.place = OVERLAY,
};

FIXTURE_VARIANT_ADD(place, overlay_upper) {
	.place = OVERLAY_UPPER,
};

FIXTURE_VARIANT_ADD(place, ext4_pages) {
	.place = EXT4_PAGES,
};

FIXTURE_VARIANT_ADD(place, ext4_large_folios) {
	.place = EXT4_FOLIOS,
};

FIXTURE_VARIANT_ADD(place, tmpfs_pages) {
	.place = TMPFS_PAGES,
};

FIXTURE_VARIANT_ADD(place, tmpfs_large_folios) {
	.place = TMPFS_FOLIOS,
};

FIXTURE_VARIANT_ADD(place, beyond_4g) {
	.place = HOLE,
};

/*
 * Mounts a new file system for the test; returns the reason for failure, or
 * NULL.
 */
static const char *mount_new(const char *type, const char *options, char *dir)
{
	static char reason[100];

	snprintf(dir, PATH_MAX, "/tmp/splice.XXXXXX");
	if (!private_mounts() || !mkdtemp(dir) ||
	    mount("splice", dir, type, 0, options)) {
		snprintf(reason, sizeof(reason), "may not mount %s: %s", type,
			 strerror(errno));
		return reason;
	}
	return NULL;
}

/*
 * Attaches @file to a loop device, which is detached when it is closed. Returns
 * a descriptor of the device, or the negated errno.
 */
static int open_loop(int file, int flags)
{
	struct loop_config config = {
		.fd = file,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR), nr, fd = -1;
	char path[32];

	if (control < 0)
		return -errno;
	do {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		if (nr < 0)
			break;
		snprintf(path, sizeof(path), "/dev/loop%d", nr);
		if (fd >= 0)
			close(fd);
		fd = open(path, O_RDWR | flags);
		if (fd < 0)
			break;
	} while (ioctl(fd, LOOP_CONFIGURE, &config) && errno == EBUSY);
	close(control);
	return fd < 0 ? -errno : fd;
}

/* Opens the file "file" in @dir. */
static int create(const char *dir, const char *sub, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s/file", dir, sub);
	return open(path, flags, 0600);
}

static const char *open_overlay(struct __test_metadata *_metadata,
				struct _test_data_place *self, bool upper)
{
	static const char *const subs[] = { "lower", "upper", "work", "all" };
	char dir[PATH_MAX], path[PATH_MAX + 10], options[3 * PATH_MAX + 64];
	const char *reason = mount_new("tmpfs", NULL, dir);
	int i;

	if (reason)
		return reason;
	for (i = 0; i < ARRAY_LEN(subs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, subs[i]);
		ASSERT_EQ(0, mkdir(path, 0700));
	}
	self->lower = create(dir, "lower", O_RDWR | O_CREAT);
	ASSERT_LE(0, self->lower);
	ASSERT_EQ(SIZE, write_pattern(self->lower, SIZE, DATA, 0));
	snprintf(options, sizeof(options),
		 "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir,
		 dir, dir);
	if (mount("splice", path, "overlay", 0, options)) {
		ASSERT_EQ(ENODEV, errno);
		return "the kernel has no overlayfs (CONFIG_OVERLAY_FS)";
	}
	/* Opening a file for writing copies it up. */
	if (upper)
		close(create(dir, "all", O_RDWR));
	self->fd = create(dir, "all", upper ? O_RDWR : O_RDONLY);
	ASSERT_LE(0, self->fd);
	return NULL;
}

/* Whether the first page of @file is part of a large folio. */
static bool has_large_folio(struct __test_metadata *_metadata, int file)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int kpageflags = open("/proc/kpageflags", O_RDONLY);
	uint64_t entry, flags;
	void *map;

	map = mmap(NULL, page_size(), PROT_READ, MAP_SHARED | MAP_POPULATE,
		   file, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(sizeof(entry),
		  pread(pagemap, &entry, sizeof(entry),
			(unsigned long)map / page_size() * sizeof(entry)));
	ASSERT_NE(0, entry & PAGEMAP_PRESENT);
	entry &= PAGEMAP_FRAME;
	ASSERT_EQ(sizeof(flags),
		  pread(kpageflags, &flags, sizeof(flags),
			entry * sizeof(flags)));
	ASSERT_EQ(0, munmap(map, page_size()));
	close(kpageflags);
	close(pagemap);
	return flags & (1 << KPF_COMPOUND_HEAD | 1 << KPF_COMPOUND_TAIL);
}

FIXTURE_SETUP(place)
{
	const char *missing = end_missing(END_EXT4) ?: end_missing(END_TMPFS);
	bool pages = variant->place == EXT4_PAGES ||
		     variant->place == TMPFS_PAGES;
	ssize_t len = pages ? page_size() : SIZE;
	const char *reason = NULL;
	char dir[PATH_MAX];
	int file, i;

	if (missing)
		SKIP(return, "%s is not set", missing);
	make_pipe(_metadata, self->p);
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 4 * SIZE));
	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	fill_pattern(self->mem, SIZE, DATA, 0);

	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	switch (variant->place) {
	case EXT4_DIRECT:
		self->fd = reopen(_metadata, file, O_RDWR | O_DIRECT);
		break;
	case LOOP:
	case LOOP_DIRECT:
		ASSERT_EQ(0, ftruncate(file, 8 * SIZE));
		self->fd = open_loop(file, variant->place == LOOP_DIRECT ?
					   O_DIRECT : 0);
		if (self->fd < 0)
			SKIP(return, "no loop device: %s (CONFIG_BLK_DEV_LOOP)",
			     strerror(-self->fd));
		break;
	case OVERLAY:
	case OVERLAY_UPPER:
		reason = open_overlay(_metadata, self,
				      variant->place == OVERLAY_UPPER);
		break;
	case EXT4_PAGES:
	case EXT4_FOLIOS:
		self->fd = file;
		break;
	case TMPFS_PAGES:
	case TMPFS_FOLIOS:
		reason = mount_new("tmpfs", variant->place == TMPFS_PAGES ?
				   "huge=never" : "huge=always", dir);
		if (!reason)
			self->fd = make_file(_metadata, dir);
		break;
	case HOLE:
		self->fd = file;
		self->start = 5LL << 30;
	}
	if (reason)
		SKIP(return, "%s", reason);
	/* A folio is no larger than the write() that allocates it. */
	if (variant->place != OVERLAY && variant->place != OVERLAY_UPPER)
		for (i = 0; i < SIZE; i += len)
			ASSERT_EQ(len, pwrite(self->fd, self->mem + i, len,
					      self->start + i));
	switch (variant->place) {
	case EXT4_PAGES:
	case EXT4_FOLIOS:
	case TMPFS_PAGES:
	case TMPFS_FOLIOS:
		ASSERT_EQ(len == SIZE, has_large_folio(_metadata, self->fd));
		break;
	default:
		break;
	}
	ASSERT_EQ(self->start, lseek(self->fd, self->start, SEEK_SET));
}

FIXTURE_TEARDOWN(place)
{
}

/* Reads @len bytes at offset @off of the file and compares them. */
static void check_range(struct __test_metadata *_metadata,
			struct _test_data_place *self, loff_t off, ssize_t len,
			unsigned int seed, loff_t pos)
{
	memset(self->mem, 0, len);
	EXPECT_EQ(len, pread(self->fd, self->mem, len, off));
	EXPECT_EQ(len, match_pattern(self->mem, len, seed, pos));
}

TEST_F(place, in)
{
	loff_t off = self->start + BLOCK;

	EXPECT_EQ(2 * BLOCK, xsplice(self->fd, &off, self->p[1], NULL,
				     2 * BLOCK, 0));
	EXPECT_EQ(self->start + 3 * BLOCK, off);
	EXPECT_EQ(self->start, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(2 * BLOCK, pipe_bytes(self->p[0]));
	EXPECT_EQ(2 * BLOCK, read_pattern(self->p[0], 2 * BLOCK, DATA, BLOCK));

	EXPECT_EQ(SIZE, splice_full(self->fd, self->p[1], SIZE));
	EXPECT_EQ(self->start + SIZE, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(SIZE, read_pattern(self->p[0], SIZE, DATA, 0));
}

/* At the end of the file and after it; a device is larger than the data. */
TEST_F(place, end)
{
	loff_t end = lseek(self->fd, 0, SEEK_END), off;
	ssize_t page = page_size();

	ASSERT_LE(self->start + SIZE, end);
	off = end - page;
	EXPECT_EQ(page, xsplice(self->fd, &off, self->p[1], NULL, SIZE, 0));
	EXPECT_EQ(end, off);
	EXPECT_EQ(0, xsplice(self->fd, &off, self->p[1], NULL, SIZE, 0));
	off = end + SIZE;
	EXPECT_EQ(0, xsplice(self->fd, &off, self->p[1], NULL, SIZE, 0));
	EXPECT_EQ(end + SIZE, off);
	EXPECT_EQ(page, pipe_bytes(self->p[0]));
}

TEST_F(place, out)
{
	loff_t off = self->start + 2 * BLOCK;

	if (variant->place == OVERLAY) {
		ASSERT_EQ(BLOCK, write_pattern(self->p[1], BLOCK, OTHER, 0));
		EXPECT_EQ(-EBADF, xsplice(self->p[0], NULL, self->fd, &off,
					  BLOCK, 0));
		EXPECT_EQ(BLOCK, read_pattern(self->p[0], BLOCK, OTHER, 0));
		return;
	}
	fill_pattern(self->mem, SIZE, OTHER, 0);
	ASSERT_EQ(SIZE, xvmsplice1(self->p[1], self->mem, SIZE, 0));
	EXPECT_EQ(BLOCK, xsplice(self->p[0], NULL, self->fd, &off, BLOCK, 0));
	EXPECT_EQ(self->start + 3 * BLOCK, off);
	EXPECT_EQ(SIZE - BLOCK, pipe_bytes(self->p[0]));
	EXPECT_EQ(self->start, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(BLOCK, xsplice(self->p[0], NULL, self->fd, NULL, BLOCK, 0));
	EXPECT_EQ(self->start + BLOCK, lseek(self->fd, 0, SEEK_CUR));
	off = self->start + SIZE;
	EXPECT_EQ(SIZE - 2 * BLOCK, xsplice(self->p[0], NULL, self->fd, &off,
					    SIZE, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	check_range(_metadata, self, self->start, BLOCK, OTHER, BLOCK);
	check_range(_metadata, self, self->start + BLOCK, BLOCK, DATA, BLOCK);
	check_range(_metadata, self, self->start + 2 * BLOCK, BLOCK, OTHER, 0);
	check_range(_metadata, self, self->start + 3 * BLOCK, SIZE - 3 * BLOCK,
		    DATA, 3 * BLOCK);
	check_range(_metadata, self, self->start + SIZE, SIZE - 2 * BLOCK,
		    OTHER, 2 * BLOCK);
	if (variant->place == OVERLAY_UPPER) {
		ASSERT_EQ(0, lseek(self->lower, 0, SEEK_SET));
		EXPECT_EQ(SIZE, read_pattern(self->lower, SIZE, DATA, 0));
	}
}

/*
 * Positions and lengths that are not multiples of a sector: an error, or the
 * result of buffered I/O.
 */
TEST_F(place, unaligned)
{
	bool direct = variant->place == LOOP_DIRECT ||
		      variant->place == EXT4_DIRECT;
	loff_t off = self->start + 10;

	EXPECT_EQ(direct ? -EINVAL : 100,
		  xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(self->start + (direct ? 10 : 110), off);
	EXPECT_EQ(direct ? 0 : 100, pipe_bytes(self->p[0]));
	if (!direct)
		EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 10));

	if (variant->place == OVERLAY)
		return;
	ASSERT_EQ(100, write_pattern(self->p[1], 100, OTHER, 0));
	off = self->start + 10;
	EXPECT_EQ(direct ? -EINVAL : 100,
		  xsplice(self->p[0], NULL, self->fd, &off, 100, 0));
	EXPECT_EQ(self->start + (direct ? 10 : 110), off);
	if (direct)
		EXPECT_EQ(100, read_pattern(self->p[0], 100, OTHER, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	memset(self->mem, 0, BLOCK);
	EXPECT_EQ(BLOCK, pread(self->fd, self->mem, BLOCK, self->start));
	EXPECT_EQ(10, match_pattern(self->mem, 10, DATA, 0));
	EXPECT_EQ(100, match_pattern(self->mem + 10, 100,
				     direct ? DATA : OTHER, direct ? 10 : 0));
	EXPECT_EQ(BLOCK - 110, match_pattern(self->mem + 110, BLOCK - 110, DATA,
					     110));
}

/* sendfile() to a file and to a socket, and from a file. */
TEST_F_TIMEOUT(place, sendfile, 60)
{
	int file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	loff_t off = self->start;
	struct job reader;
	int sv[2];

	EXPECT_EQ(SIZE, xsendfile(file, self->fd, &off, SIZE));
	EXPECT_EQ(self->start + SIZE, off);
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(SIZE, read_pattern(file, SIZE, DATA, 0));

	make_tcp_pair(_metadata, sv);
	reader = job_reader(sv[1], self->mem, SIZE);
	job_start(_metadata, &reader);
	EXPECT_EQ(SIZE, xsendfile(sv[0], self->fd, NULL, SIZE));
	EXPECT_EQ(SIZE, job_finish(_metadata, &reader));
	EXPECT_EQ(SIZE, match_pattern(self->mem, SIZE, DATA, 0));
	EXPECT_EQ(self->start + SIZE, lseek(self->fd, 0, SEEK_CUR));

	if (variant->place == OVERLAY)
		return;
	off = BLOCK;
	EXPECT_EQ(SIZE - BLOCK, xsendfile(self->fd, file, &off, SIZE));
	EXPECT_EQ(self->start + 2 * SIZE - BLOCK,
		  lseek(self->fd, 0, SEEK_CUR));
	check_range(_metadata, self, self->start + SIZE, SIZE - BLOCK, DATA,
		    BLOCK);
}

/* Page by page through two pipes, with several references to each page. */
TEST_F(place, tee)
{
	loff_t off = self->start;
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_LT(0, fcntl(q[1], F_SETPIPE_SZ, 4 * SIZE));
	ASSERT_EQ(SIZE, splice_full(self->fd, self->p[1], SIZE));
	ASSERT_EQ(SIZE, xtee(self->p[0], q[1], SIZE, 0));
	EXPECT_EQ(SIZE, read_pattern(self->p[0], SIZE, DATA, 0));
	if (variant->place != OVERLAY) {
		fill_pattern(self->mem, BLOCK, OTHER, 0);
		ASSERT_EQ(BLOCK, xvmsplice1(self->p[1], self->mem, BLOCK, 0));
		EXPECT_EQ(BLOCK, xsplice(self->p[0], NULL, self->fd, &off,
					 BLOCK, 0));
		check_range(_metadata, self, self->start, BLOCK, OTHER, 0);
		ASSERT_EQ(BLOCK, xread(q[0], self->mem, BLOCK));
	} else {
		ASSERT_EQ(BLOCK, read_pattern(q[0], BLOCK, DATA, 0));
	}
	EXPECT_EQ(SIZE - BLOCK, read_pattern(q[0], SIZE - BLOCK, DATA, BLOCK));
}

/* A small file system that the test fills. */
FIXTURE(full) {
	int fd;
	int ballast;		/* space that the test frees later */
	int source;		/* a file on another file system, larger than the small one */
	ssize_t size;
	int p[2];
};

FIXTURE_VARIANT(full) {
	bool ext4;
};

FIXTURE_VARIANT_ADD(full, tmpfs) {
	.ext4 = false,
};

FIXTURE_VARIANT_ADD(full, ext4) {
	.ext4 = true,
};

static const char *mount_small_ext4(struct __test_metadata *_metadata,
				    char *dir)
{
	int file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	char command[128];
	int loop, ro;

	ASSERT_EQ(0, ftruncate(file, 1 << 20));
	loop = open_loop(file, 0);
	if (loop < 0)
		return "no loop device (CONFIG_BLK_DEV_LOOP)";
	snprintf(command, sizeof(command),
		 "mkfs.ext4 -q -F -m 0 -O ^has_journal /proc/%d/fd/%d", getpid(),
		 loop);
	if (system(command))
		return "mkfs.ext4 failed, or is not there";
	/* Other users must not be able to write to the mount. */
	ro = reopen(_metadata, loop, O_RDONLY);
	close(loop);
	snprintf(command, sizeof(command), "/proc/self/fd/%d", ro);
	snprintf(dir, PATH_MAX, "/tmp/splice.XXXXXX");
	if (!private_mounts() || !mkdtemp(dir) ||
	    mount(command, dir, "ext4", 0, NULL))
		return "may not mount ext4";
	close(ro);
	return NULL;
}

FIXTURE_SETUP(full)
{
	const char *missing = end_missing(END_TMPFS), *reason;
	char dir[PATH_MAX];

	if (missing)
		SKIP(return, "%s is not set", missing);
	reason = variant->ext4 ? mount_small_ext4(_metadata, dir) :
		 mount_new("tmpfs", "size=1m", dir);
	if (reason)
		SKIP(return, "%s", reason);
	self->fd = make_file(_metadata, dir);
	self->ballast = make_file(_metadata, dir);
	ASSERT_EQ(100000, write_pattern(self->ballast, 100000, OTHER, 0));
	self->size = 2 << 20;
	self->source = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(self->size, write_pattern(self->source, self->size, DATA, 0));
	ASSERT_EQ(0, lseek(self->source, 0, SEEK_SET));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(full)
{
}

static void check_written(struct __test_metadata *_metadata, int fd,
			  ssize_t len)
{
	ASSERT_EQ(len, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(len, lseek(fd, 0, SEEK_END));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(len, read_pattern(fd, len, DATA, 0));
	ASSERT_EQ(len, lseek(fd, 0, SEEK_CUR));
}

/*
 * Data that was not written stays in the pipe, and is written when there is
 * space.
 */
TEST_F(full, splice)
{
	ssize_t put = 0, written = 0, ret;

	for (;;) {
		if (!pipe_bytes(self->p[0])) {
			ret = splice_full(self->source, self->p[1], 50000);
			ASSERT_EQ(50000, ret);
			put += ret;
			ASSERT_GT(self->size, put);
		}
		ret = xsplice(self->p[0], NULL, self->fd, NULL, 50000, 0);
		if (ret < 0)
			break;
		ASSERT_LT(0, ret);
		written += ret;
		ASSERT_EQ(put - written, pipe_bytes(self->p[0]));
	}
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_LT(put - written, 50001);
	EXPECT_EQ(put - written, pipe_bytes(self->p[0]));
	check_written(_metadata, self->fd, written);

	ASSERT_EQ(0, ftruncate(self->ballast, 0));
	EXPECT_EQ(put - written,
		  splice_full(self->p[0], self->fd, put - written));
	check_written(_metadata, self->fd, put);
}

/* sendfile() sets the position of the source to the end of the written data. */
TEST_F(full, sendfile)
{
	ssize_t written = 0, ret;

	for (;;) {
		ret = xsendfile(self->fd, self->source, NULL, self->size);
		if (ret < 0)
			break;
		ASSERT_LT(0, ret);
		written += ret;
		ASSERT_EQ(written, lseek(self->source, 0, SEEK_CUR));
	}
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_LT(100000, written);
	check_written(_metadata, self->fd, written);

	ASSERT_EQ(0, ftruncate(self->ballast, 0));
	EXPECT_EQ(50000, xsendfile(self->fd, self->source, NULL, 50000));
	check_written(_metadata, self->fd, written + 50000);
}

/* An uncaught SIGXFSZ ends the task; its pipe keeps the rest. */
TEST_F(full, size_limit_kills)
{
	struct rlimit limit = { 30000, 30000 };
	struct job job;
	int status, i;
	pid_t pid;

	ASSERT_EQ(50000, splice_full(self->source, self->p[1], 50000));
	for (i = 0; i < 2; i++) {
		job = i ? job_sendfile(self->fd, self->source, 50000) :
			  job_splice(self->p[0], self->fd, 50000);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			signal(SIGXFSZ, SIG_DFL);
			if (setrlimit(RLIMIT_FSIZE, &limit))
				_exit(1);
			/*
			 * The first splice is short, the second one exceeds the
			 * limit.
			 */
			job_call(&job);
			job_call(&job);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGXFSZ, WTERMSIG(status));
		EXPECT_EQ(50000 + (i ? 30000 : 0),
			  lseek(self->source, 0, SEEK_CUR));
		EXPECT_EQ(30000, lseek(self->fd, 0, SEEK_END));
		ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
		EXPECT_EQ(30000, read_pattern(self->fd, 30000, DATA,
					      i ? 50000 : 0));
		ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	}
	EXPECT_EQ(20000, read_pattern(self->p[0], 20000, DATA, 30000));
}

/* trace_pipe and trace_pipe_raw of a new trace instance. */
FIXTURE(trace) {
	char dir[PATH_MAX];
	char instance[PATH_MAX + 40];
	int marker;
	int p[2];
	int q[2];
};

static int open_trace(struct _test_data_trace *self, const char *name, int flags)
{
	char path[PATH_MAX + 100];

	snprintf(path, sizeof(path), "%s/%s", self->instance, name);
	return open(path, flags);
}

FIXTURE_SETUP(trace)
{
	const char *reason = mount_new("tracefs", NULL, self->dir);

	if (reason)
		SKIP(return, "%s (CONFIG_FTRACE)", reason);
	snprintf(self->instance, sizeof(self->instance),
		 "%s/instances/splice.%d", self->dir, getpid());
	ASSERT_EQ(0, mkdir(self->instance, 0700));
	self->marker = open_trace(self, "trace_marker", O_WRONLY);
	ASSERT_LE(0, self->marker);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(trace)
{
	if (!self->instance[0])
		return;
	close(self->marker);
	rmdir(self->instance);
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

TEST_F(trace, pipe)
{
	int fd = open_trace(self, "trace_pipe", O_RDONLY | O_NONBLOCK), i;
	char buf[65536], *p;
	ssize_t len;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EAGAIN, xsplice(fd, NULL, self->p[1], NULL, 65536, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	/*
	 * Use more slots than the kernel's arrays on the stack have. Move at
	 * most a page at a time, because longer transfers have gaps.
	 */
	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 64 * page_size()));
	for (i = 0; i < 200; i++) {
		ASSERT_LT(0, dprintf(self->marker, "splice marker %d.\n", i));
		if (i % 20 < 19)
			continue;
		ASSERT_LT(0, xsplice(fd, NULL, self->p[1], NULL, 65536, 0));
		EXPECT_EQ(-EAGAIN, xsplice(fd, NULL, self->p[1], NULL, 65536,
					   0));
	}
	len = xread(self->p[0], buf, sizeof(buf) - 1);
	ASSERT_LT(0, len);
	buf[len] = 0;
	p = buf;
	for (i = 0; i < 200; i++) {
		char text[40];

		snprintf(text, sizeof(text), "splice marker %d.", i);
		p = strstr(p, text);
		ASSERT_NE(NULL, p) {
			TH_LOG("no \"%s\" in %zd bytes:\n%s", text, len, buf);
		}
	}
	close(fd);
}

/* splice() to a full pipe consumes no line, and no line is lost. */
TEST_F(trace, full_pipe)
{
	int fd = open_trace(self, "trace_pipe", O_RDONLY | O_NONBLOCK);
	ssize_t capacity = fill_pipe(_metadata, self->p[1], OTHER);
	char buf[4096];
	ssize_t len;

	ASSERT_LE(0, fd);
	ASSERT_LT(0, dprintf(self->marker, "splice marker.\n"));
	EXPECT_EQ(-EAGAIN, xsplice(fd, NULL, self->p[1], NULL, 65536,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, OTHER, 0));
	len = xsplice(fd, NULL, self->p[1], NULL, 65536, 0);
	ASSERT_LT(0, len);
	ASSERT_EQ(len, xread(self->p[0], buf, sizeof(buf) - 1));
	buf[len] = 0;
	EXPECT_NE(NULL, strstr(buf, "splice marker."));
	close(fd);
}

/* Whole pages of the ring buffer move by reference, also two in one call. */
TEST_F(trace, raw)
{
	char *one, *two, *text = NULL;
	ssize_t page = page_size(), len;
	cpu_set_t cpus;
	int fd, i;

	one = malloc(65536);
	two = malloc(65536);
	ASSERT_NE(NULL, one);
	ASSERT_NE(NULL, two);
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	fd = open_trace(self, "per_cpu/cpu0/trace_pipe_raw",
			O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	for (i = 0; i < 400; i++)
		ASSERT_LT(0, dprintf(self->marker, "splice marker %d.\n", i));

	EXPECT_EQ(-EINVAL, xsplice(fd, NULL, self->p[1], NULL, 100, 0));
	len = xsplice(fd, NULL, self->p[1], NULL, 8 * page, 0);
	ASSERT_LT(0, len);
	ASSERT_EQ(0, len % page);
	ASSERT_EQ(len, xtee(self->p[0], self->q[1], len, 0));
	ASSERT_EQ(len, read_full(self->p[0], one, len));
	ASSERT_EQ(100, write_pattern(self->q[1], 100, OTHER, 0));
	ASSERT_EQ(len, read_full(self->q[0], two, len));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, OTHER, 0));
	EXPECT_EQ(0, memcmp(one, two, len));
	for (i = 0; i < len - 15 && !text; i++)
		if (!memcmp(one + i, "splice marker 0.", 16))
			text = one + i;
	EXPECT_NE(NULL, text);
	free(one);
	free(two);
	close(fd);
}

/* A terminal in raw mode reads and writes by iterators and has no pages. */
TEST(terminal)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave, p[2];
	struct termios raw;

	if (master < 0 || unlockpt(master))
		SKIP(return, "no pseudoterminals: %s", strerror(errno));
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	ASSERT_LE(0, slave);
	ASSERT_EQ(0, tcgetattr(slave, &raw));
	cfmakeraw(&raw);
	ASSERT_EQ(0, tcsetattr(slave, TCSANOW, &raw));
	make_pipe(_metadata, p);

	/* From the program to the terminal, and in the opposite direction. */
	ASSERT_EQ(1000, write_pattern(p[1], 1000, DATA, 0));
	EXPECT_EQ(300, xsplice(p[0], NULL, slave, NULL, 300, 0));
	EXPECT_EQ(700, splice_full(p[0], slave, 700));
	EXPECT_EQ(1000, splice_full(master, p[1], 1000));
	EXPECT_EQ(1000, read_pattern(p[0], 1000, DATA, 0));

	set_nonblock(_metadata, slave, true);
	EXPECT_EQ(-EAGAIN, xsplice(slave, NULL, p[1], NULL, 1000, 0));
	ASSERT_EQ(100, write_pattern(p[1], 100, DATA, 0));
	EXPECT_EQ(100, xsplice(p[0], NULL, master, NULL, 100, 0));
	set_nonblock(_metadata, slave, false);
	EXPECT_EQ(100, splice_full(slave, p[1], 100));
	EXPECT_EQ(100, read_pattern(p[0], 100, DATA, 0));

	EXPECT_EQ(-ESPIPE, xsendfile(p[1], slave, &(loff_t){ 0 }, 1));
}

/*
 * sysctl files: one write() sets the variable, so all data must arrive in one
 * call.
 */
TEST(sysctl)
{
	char name[65], text[65];
	int fd, p[2], version;
	ssize_t len;

	if (unshare(CLONE_NEWUTS))
		SKIP(return, "no UTS namespace: %s",
		     strerror(errno));
	make_pipe(_metadata, p);
	fd = open("/proc/sys/kernel/hostname", O_RDWR);
	ASSERT_LE(0, fd);
	/* In two buffers. */
	ASSERT_EQ(7, xwrite(p[1], "splice-", 7));
	ASSERT_EQ(5, xvmsplice1(p[1], "test\n", 5, 0));
	EXPECT_EQ(12, xsplice(p[0], NULL, fd, NULL, 100, 0));
	ASSERT_EQ(0, gethostname(name, sizeof(name)));
	EXPECT_STREQ("splice-test", name);

	EXPECT_EQ(12, xsplice(fd, &(loff_t){ 0 }, p[1], NULL, 100, 0));
	EXPECT_EQ(0, xsplice(fd, &(loff_t){ 12 }, p[1], NULL, 100, 0));
	ASSERT_EQ(12, xread(p[0], text, sizeof(text)));
	EXPECT_EQ(0, memcmp(text, "splice-test\n", 12));

	/* A file of /proc that seq_file generates. */
	version = open("/proc/version", O_RDONLY);
	ASSERT_LE(0, version);
	len = xread(version, text, sizeof(text));
	ASSERT_EQ(sizeof(text), len);
	EXPECT_EQ(10, xsendfile(p[1], version, &(loff_t){ 5 }, 10));
	EXPECT_EQ(10, xread(p[0], name, sizeof(name)));
	EXPECT_EQ(0, memcmp(name, text + 5, 10));
	/* A file that cannot be written to by an iterator. */
	fd = open("/proc/self/oom_score_adj", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(2, xwrite(p[1], "1\n", 2));
	EXPECT_EQ(-EINVAL, xsplice(p[0], NULL, fd, NULL, 2, 0));
	EXPECT_EQ(2, pipe_bytes(p[0]));
}

/* An endless source that has no page cache. */
TEST(random_numbers)
{
	int fd = open("/dev/urandom", O_RDWR), p[2];
	ssize_t capacity, page = page_size();
	char *one = malloc(page), *two = malloc(page);

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, one);
	ASSERT_NE(NULL, two);
	make_pipe(_metadata, p);
	capacity = pipe_capacity(p[1]);
	EXPECT_EQ(capacity, xsplice(fd, NULL, p[1], NULL, 10 * capacity, 0));
	EXPECT_EQ(-EAGAIN, xsplice(fd, NULL, p[1], NULL, 1, SPLICE_F_NONBLOCK));
	ASSERT_EQ(page, xread(p[0], one, page));
	ASSERT_EQ(page, xread(p[0], two, page));
	EXPECT_NE(0, memcmp(one, two, page));
	EXPECT_EQ(capacity - 2 * page, xsplice(p[0], NULL, fd, NULL, capacity,
					       0));
	free(one);
	free(two);
}

TEST_HARNESS_MAIN
