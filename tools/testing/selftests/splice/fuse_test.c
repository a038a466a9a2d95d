// SPDX-License-Identifier: GPL-2.0
/*
 * A FUSE mount whose server splices requests out of /dev/fuse and replies into
 * it, by moved pages if possible. The test splices from and to files of the
 * mount.
 *
 * The server is a child process, so that the mount is aborted and no task waits
 * for it, however the test ends. It serves one file, whose data it keeps in
 * another file, the backing file.
 */
#include "splice_memory.h"

#include <linux/fuse.h>
#include <linux/sched.h>
#include <sys/prctl.h>

/* Data of more than one page, with a partly filled last page. */
#define SOME 5000

/* Initial size of the file: more than several requests. */
#define SIZE 300001

#define DATA 1
#define OTHER 2

#define NODE 2
#define MAX_WRITE 131072
#define BUFFER (MAX_WRITE + 8192)

/* How the server reads data, and how pages get into its replies. */
enum how {
	PLAIN,			/* read() and write() */
	SPLICE,			/* splice(), replies from the backing file */
	MOVE_FILE,		/* the same, with SPLICE_F_MOVE */
	MOVE_ANON,		/* the same from pages that write() allocated */
	MOVE_GIFT,		/* the same from pages of vmsplice() with SPLICE_F_GIFT */
	MOVE_THP,		/* the same from a huge page, without SPLICE_F_GIFT */
	PASSTHROUGH,		/* the kernel accesses the backing file itself */
};

/* Memory shared by test and server. */
struct shared {
	int read_error;		/* error of the reply to every read request, or 0 */
	bool hang;		/* the server never replies to a read request */
	bool delay;		/* it replies once this is false */
	bool keep;		/* the server tees every read reply into the keep pipe */
	int nr_reads;
	int nr_writes;
};

struct server {
	struct shared *shared;
	enum how how;
	int dev;
	int backing;
	int backing_id;
	int in[2];		/* requests */
	int out[2];		/* replies */
	int pages[2];		/* data of requests and replies */
	int keep[2];
	char *buf;
};

FIXTURE(fuse) {
	struct shared *shared;
	char dir[PATH_MAX];
	pid_t server;
	int backing;
	int keep[2];
	int fd;			/* the file on the mount */
	int p[2];
	char value[16];		/* fs.splice_zerocopy before the test */
};

FIXTURE_VARIANT(fuse) {
	enum how how;
	bool copies;		/* fs.splice_zerocopy is 0 */
};

FIXTURE_VARIANT_ADD(fuse, plain) {
	.how = PLAIN,
};

FIXTURE_VARIANT_ADD(fuse, splice) {
	.how = SPLICE,
};

FIXTURE_VARIANT_ADD(fuse, move_file) {
	.how = MOVE_FILE,
};

FIXTURE_VARIANT_ADD(fuse, move_anon) {
	.how = MOVE_ANON,
};

FIXTURE_VARIANT_ADD(fuse, move_gift) {
	.how = MOVE_GIFT,
};

FIXTURE_VARIANT_ADD(fuse, move_thp) {
	.how = MOVE_THP,
};

FIXTURE_VARIANT_ADD(fuse, passthrough) {
	.how = PASSTHROUGH,
};

/* /dev/fuse gets copies, and needs each reply in one piece. */
FIXTURE_VARIANT_ADD(fuse, splice_copies) {
	.how = SPLICE, .copies = true,
};

FIXTURE_VARIANT_ADD(fuse, move_anon_copies) {
	.how = MOVE_ANON, .copies = true,
};

FIXTURE_VARIANT_ADD(fuse, move_thp_copies) {
	.how = MOVE_THP, .copies = true,
};

FIXTURE_VARIANT_ADD(fuse, passthrough_copies) {
	.how = PASSTHROUGH, .copies = true,
};

/* The server reports errors by its exit code. */
#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# server: line %d: %s: %m\n",		\
			__LINE__, #cond);				\
		_exit(1);						\
	}								\
} while (0)

static bool by_splice(const struct server *s)
{
	return s->how != PLAIN && s->how != PASSTHROUGH;
}

static bool from_memory(enum how how)
{
	return how == MOVE_ANON || how == MOVE_GIFT || how == MOVE_THP;
}

/* Errors of a read of /dev/fuse after the mount is gone. */
static bool is_gone(ssize_t ret)
{
	return ret == -ENODEV || ret == -ECONNABORTED;
}

/*
 * Reads the next request into s->buf, except the data of a write request that
 * can be spliced from s->in. Returns false if there are no more requests.
 */
static bool receive(struct server *s)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	ssize_t len = sizeof(*in), ret;

	if (!by_splice(s)) {
		ret = xread(s->dev, s->buf, BUFFER);
		CHECK(is_gone(ret) || ret == in->len);
		return ret > 0;
	}
	ret = xsplice(s->dev, NULL, s->in[1], NULL, BUFFER, 0);
	if (is_gone(ret))
		return false;
	CHECK(ret == pipe_bytes(s->in[0]));
	CHECK(read_full(s->in[0], in, len) == len);
	CHECK(ret == in->len);
	ret = in->len - len;
	if (in->opcode == FUSE_WRITE)
		ret = sizeof(struct fuse_write_in);
	CHECK(!ret || read_full(s->in[0], in + 1, ret) == ret);
	return true;
}

static void reply(struct server *s, int error, const void *data, size_t len)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	struct fuse_out_header out = {
		.len = sizeof(out) + len,
		.error = -error,
		.unique = in->unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)data, len } };

	/* The test may have been interrupted and have exited. */
	if (writev(s->dev, iov, 2) < 0)
		CHECK(errno == ENOENT || is_gone(-errno));
}

/*
 * Splices @len bytes of the backing file at @off into s->pages, in whole pages.
 */
static void load_pages(struct server *s, ssize_t len, loff_t off)
{
	ssize_t size = (len + page_size() - 1) & -page_size();
	struct memory huge = { .fd = -1 };
	char *mem;

	if (s->how == MOVE_THP) {
		CHECK(memory_reserve_area(&huge) && memory_map_thp(&huge));
		/*
		 * The pages of the pipe and those of the file have different
		 * offsets.
		 */
		mem = huge.p + 10;
		CHECK(pread(s->backing, mem, len, off) == len);
		CHECK(xvmsplice1(s->pages[1], mem, len, 0) == len);
		memory_unmap(&huge);
		return;
	}
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED);
	CHECK(pread(s->backing, mem, len, off) == len);
	if (s->how == MOVE_GIFT)
		CHECK(xvmsplice1(s->pages[1], mem, len, SPLICE_F_GIFT) == len);
	else
		CHECK(write_full(s->pages[1], mem, len) == len);
	munmap(mem, size);
}

static void reply_read(struct server *s)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	struct fuse_read_in arg = *(struct fuse_read_in *)(in + 1);
	struct fuse_out_header out = { .unique = in->unique };
	loff_t off = arg.offset;
	ssize_t len, done, ret;
	struct stat st;

	s->shared->nr_reads++;
	while (s->shared->hang)
		pause();
	while (__atomic_load_n(&s->shared->delay, __ATOMIC_SEQ_CST))
		usleep(1000);
	if (s->shared->read_error) {
		reply(s, s->shared->read_error, NULL, 0);
		return;
	}
	CHECK(!fstat(s->backing, &st));
	len = st.st_size > off ? st.st_size - off : 0;
	if (len > arg.size)
		len = arg.size;
	if (!by_splice(s) || !len) {
		char *data = malloc(arg.size);

		CHECK(data && pread(s->backing, data, len, off) == len);
		reply(s, 0, data, len);
		free(data);
		return;
	}

	out.len = sizeof(out) + len;
	CHECK(write_full(s->out[1], &out, sizeof(out)) == sizeof(out));
	if (from_memory(s->how)) {
		load_pages(s, len, off);
		if (s->shared->keep)
			CHECK(xtee(s->pages[0], s->keep[1], len, 0) == len);
		CHECK(splice_full(s->pages[0], s->out[1], len) == len);
	} else {
		for (done = 0; done < len; done += ret) {
			ret = xsplice(s->backing, &off, s->out[1], NULL,
				      len - done, 0);
			CHECK(ret > 0);
		}
	}
	ret = xsplice(s->out[0], NULL, s->dev, NULL, out.len,
		      s->how == SPLICE ? 0 : SPLICE_F_MOVE);
	CHECK(ret == out.len || ret == -ENOENT || ret == -ENODEV);
	CHECK(!pipe_bytes(s->out[0]));
}

static void reply_write(struct server *s)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	struct fuse_write_in *arg = (struct fuse_write_in *)(in + 1);
	struct fuse_write_out out = { .size = arg->size };
	loff_t off = arg->offset;
	ssize_t done, ret;

	s->shared->nr_writes++;
	if (by_splice(s)) {
		CHECK(pipe_bytes(s->in[0]) == arg->size);
		for (done = 0; done < arg->size; done += ret) {
			ret = xsplice(s->in[0], NULL, s->backing, &off,
				      arg->size - done, 0);
			CHECK(ret > 0);
		}
	} else {
		CHECK(pwrite(s->backing, arg + 1, arg->size, off) ==
		      arg->size);
	}
	reply(s, 0, &out, sizeof(out));
}

static struct fuse_attr attr_of(struct server *s, uint64_t node)
{
	struct fuse_attr attr = {
		.ino = node,
		.mode = node == NODE ? S_IFREG | 0600 : S_IFDIR | 0700,
		.nlink = 1,
		.blksize = 4096,
	};
	struct stat st;

	CHECK(!fstat(s->backing, &st));
	if (node == NODE)
		attr.size = st.st_size;
	return attr;
}

static void reply_attr(struct server *s)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	struct fuse_attr_out out = { .attr = attr_of(s, in->nodeid) };

	reply(s, 0, &out, sizeof(out));
}

static void reply_init(struct server *s)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = MAX_WRITE,
		.flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT |
			 FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE |
			 FUSE_SPLICE_READ,
		.max_write = MAX_WRITE,
		.max_pages = MAX_WRITE / 4096,
		.time_gran = 1,
	};

	if (s->how == PASSTHROUGH) {
		out.flags2 = FUSE_PASSTHROUGH >> 32;
		out.max_stack_depth = 1;
	}
	reply(s, 0, &out, sizeof(out));
}

static void reply_open(struct server *s)
{
	struct fuse_backing_map map = { .fd = s->backing };
	struct fuse_open_out out = { .fh = 1 };

	if (s->how == PASSTHROUGH) {
		if (s->backing_id < 0)
			s->backing_id = ioctl(s->dev, FUSE_DEV_IOC_BACKING_OPEN,
					      &map);
		CHECK(s->backing_id > 0);
		out.open_flags = FOPEN_PASSTHROUGH;
		out.backing_id = s->backing_id;
	}
	reply(s, 0, &out, sizeof(out));
}

static void serve(struct server *s)
{
	struct fuse_in_header *in = (struct fuse_in_header *)s->buf;
	struct fuse_setattr_in *set = (struct fuse_setattr_in *)(in + 1);
	struct fuse_entry_out entry = { .nodeid = NODE };

	while (receive(s)) {
		switch (in->opcode) {
		case FUSE_INIT:
			reply_init(s);
			break;
		case FUSE_LOOKUP:
			entry.attr = attr_of(s, NODE);
			if (strcmp((char *)(in + 1), "file"))
				reply(s, ENOENT, NULL, 0);
			else
				reply(s, 0, &entry, sizeof(entry));
			break;
		case FUSE_SETATTR:
			if (set->valid & FATTR_SIZE)
				CHECK(!ftruncate(s->backing, set->size));
			reply_attr(s);
			break;
		case FUSE_GETATTR:
			reply_attr(s);
			break;
		case FUSE_OPEN:
			reply_open(s);
			break;
		case FUSE_READ:
			reply_read(s);
			break;
		case FUSE_WRITE:
			reply_write(s);
			break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
		case FUSE_DESTROY:
			reply(s, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			reply(s, EOPNOTSUPP, NULL, 0);
		}
	}
	_exit(0);
}

/* Creates a pipe that has room for one request or reply. */
static void make_large_pipe(struct __test_metadata *_metadata, int p[2])
{
	int size = 64 * page_size();

	make_pipe(_metadata, p);
	ASSERT_EQ(size, fcntl(p[1], F_SETPIPE_SZ, size));
}

FIXTURE_SETUP(fuse)
{
	const char *missing = end_missing(END_EXT4);
	char path[PATH_MAX + 8], options[80];
	struct server s = { .how = variant->how, .backing_id = -1 };

	if (missing)
		SKIP(return, "%s is not set", missing);
	if (variant->how == MOVE_THP && memory_missing(MEMORY_THP))
		SKIP(return, "%s", memory_missing(MEMORY_THP));
	s.dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s.dev < 0)
		SKIP(return, "/dev/fuse: %s", strerror(errno));
	if (!private_mounts())
		SKIP(return, "may not mount: %s", strerror(errno));
	if (variant->copies) {
		if (read_text(ZEROCOPY, self->value, sizeof(self->value)) <= 0)
			SKIP(return, "the kernel has no fs.splice_zerocopy");
		ASSERT_EQ(1, write_text(ZEROCOPY, "0"));
	}

	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
	/*
	 * Write the pages back: only clean pages can be taken from their file.
	 */
	self->backing = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(SIZE, write_pattern(self->backing, SIZE, DATA, 0));
	ASSERT_EQ(0, fsync(self->backing));
	snprintf(self->dir, sizeof(self->dir), "/tmp/splice.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", s.dev);
	ASSERT_EQ(0, mount("splice", self->dir, "fuse", 0, options));

	make_large_pipe(_metadata, s.in);
	make_large_pipe(_metadata, s.out);
	make_large_pipe(_metadata, s.pages);
	make_large_pipe(_metadata, s.keep);
	s.shared = self->shared;
	s.backing = self->backing;
	s.buf = malloc(BUFFER);
	ASSERT_NE(NULL, s.buf);
	self->server = fork();
	ASSERT_LE(0, self->server);
	if (!self->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(&s);
	}
	/*
	 * Close the test's descriptor of /dev/fuse: only the server has one
	 * now.
	 */
	close(s.dev);
	close(s.in[0]);
	close(s.in[1]);
	close(s.out[0]);
	close(s.out[1]);
	close(s.pages[0]);
	close(s.pages[1]);
	self->keep[0] = s.keep[0];
	self->keep[1] = s.keep[1];

	snprintf(path, sizeof(path), "%s/file", self->dir);
	self->fd = open(path, O_RDWR);
	ASSERT_LE(0, self->fd);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(fuse)
{
	int status;

	if (self->value[0])
		write_text(ZEROCOPY, self->value);
	if (!self->server)
		return;
	close(self->fd);
	EXPECT_EQ(0, umount2(self->dir, MNT_DETACH));
	EXPECT_EQ(self->server, waitpid(self->server, &status, 0));
	EXPECT_EQ(self->shared->hang ? SIGKILL : 0, status);
	rmdir(self->dir);
	close_all();
	expect_no_pins(_metadata);
}

/* Returns the whole file, from the backing file. */
static void check_backing(struct __test_metadata *_metadata, int fd,
			  ssize_t len, unsigned int seed)
{
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(len, read_pattern(fd, len, seed, 0));
}

TEST_F_TIMEOUT(fuse, read, 60)
{
	EXPECT_EQ(SIZE, read_pattern(self->fd, SIZE, DATA, 0));
	EXPECT_EQ(0, xread(self->fd, &(char){ 0 }, 1));
	check_backing(_metadata, self->backing, SIZE, DATA);
	EXPECT_EQ(variant->how != PASSTHROUGH, self->shared->nr_reads > 0);
}

TEST_F_TIMEOUT(fuse, write, 60)
{
	EXPECT_EQ(SIZE, write_pattern(self->fd, SIZE, OTHER, 0));
	check_backing(_metadata, self->backing, SIZE, OTHER);
	EXPECT_EQ(variant->how != PASSTHROUGH, self->shared->nr_writes > 0);
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SIZE, read_pattern(self->fd, SIZE, OTHER, 0));
}

TEST_F_TIMEOUT(fuse, splice_in, 60)
{
	ssize_t done, ret;

	for (done = 0; done < SIZE; done += ret) {
		ret = xsplice(self->fd, NULL, self->p[1], NULL, SIZE, 0);
		ASSERT_LT(0, ret);
		ASSERT_EQ(ret, pipe_bytes(self->p[0]));
		ASSERT_EQ(ret, read_pattern(self->p[0], ret, DATA, done));
	}
	EXPECT_EQ(0, xsplice(self->fd, NULL, self->p[1], NULL, SIZE, 0));
	check_backing(_metadata, self->backing, SIZE, DATA);
}

TEST_F_TIMEOUT(fuse, splice_out, 60)
{
	ssize_t capacity = pipe_capacity(self->p[1]), done;
	loff_t off = SIZE;
	int i;

	for (done = 0; done < 3 * capacity; done += capacity) {
		ASSERT_EQ(capacity,
			  write_pattern(self->p[1], capacity, OTHER, done));
		for (i = 0; i < 2; i++)
			ASSERT_EQ(capacity / 2,
				  xsplice(self->p[0], NULL, self->fd, NULL,
					  capacity / 2, 0));
	}
	EXPECT_EQ(done, lseek(self->fd, 0, SEEK_CUR));
	check_backing(_metadata, self->backing, done, OTHER);
	EXPECT_EQ(SIZE - done, read_pattern(self->backing, SIZE - done, DATA,
					    done));

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, SIZE));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, &off, SOME, 0));
	EXPECT_EQ(SIZE + SOME, off);
	EXPECT_EQ(SOME, read_pattern(self->backing, SOME, DATA, SIZE));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

TEST_F_TIMEOUT(fuse, sendfile, 60)
{
	int file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	loff_t off = 0;

	EXPECT_EQ(SIZE, xsendfile(file, self->fd, &off, 2 * SIZE));
	EXPECT_EQ(SIZE, off);
	check_backing(_metadata, file, SIZE, DATA);
	off = 0;
	ASSERT_EQ(SIZE, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(SIZE, xsendfile(self->fd, file, &off, SIZE));
	check_backing(_metadata, self->backing, SIZE, DATA);
	EXPECT_EQ(SIZE, read_pattern(self->backing, SIZE, DATA, 0));
}

TEST_F_TIMEOUT(fuse, copy_file_range, 60)
{
	loff_t in = 0, out = SIZE;

	EXPECT_EQ(SIZE, xcopy_file_range(self->fd, &in, self->fd, &out, SIZE,
					 0));
	check_backing(_metadata, self->backing, SIZE, DATA);
	EXPECT_EQ(SIZE, read_pattern(self->backing, SIZE, DATA, 0));
}

/* A page of the mount's cache that the test has spliced is not written to. */
TEST_F(fuse, page_cache_is_not_written)
{
	ssize_t capacity = fill_pipe(_metadata, self->p[1], OTHER);
	loff_t off = 0;
	int i;

	ASSERT_EQ(capacity, read_pattern(self->p[0], capacity, OTHER, 0));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(1, xsplice(self->fd, &off, self->p[1], NULL, 1, 0));
		ASSERT_EQ(100, write_pattern(self->p[1], 100, OTHER, 0));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
		ASSERT_EQ(100, read_pattern(self->p[0], 100, OTHER, 0));
	}
	EXPECT_EQ(SIZE, read_pattern(self->fd, SIZE, DATA, 0));
}

/*
 * A page that came with a reply belongs to the mount's file. A change of it
 * that was not written back is visible in no other file.
 */
TEST_F_TIMEOUT(fuse, moved_page_is_not_shared, 60)
{
	char *map, buf[100];
	int i;

	EXPECT_EQ(SIZE, read_pattern(self->fd, SIZE, DATA, 0));
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < SIZE; i += page_size())
		map[i] = ~map[i];
	if (variant->how == PASSTHROUGH) {
		ASSERT_EQ(100, pread(self->backing, buf, 100, 0));
		EXPECT_EQ(0, memcmp(map, buf, 100));
	} else {
		check_backing(_metadata, self->backing, SIZE, DATA);
	}
	ASSERT_EQ(0, munmap(map, SIZE));
}

/* A page is not moved while another pipe refers to it. */
TEST_F_TIMEOUT(fuse, shared_page_is_not_moved, 60)
{
	ssize_t len;

	self->shared->keep = true;
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
	self->shared->keep = false;
	EXPECT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SIZE, write_pattern(self->fd, SIZE, OTHER, 0));

	len = pipe_bytes(self->keep[0]);
	if (from_memory(variant->how)) {
		EXPECT_LE(SOME, len);
		EXPECT_EQ(len, read_pattern(self->keep[0], len, DATA, 0));
	} else {
		EXPECT_EQ(0, len);
	}
	EXPECT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SIZE, read_pattern(self->fd, SIZE, OTHER, 0));
}

/*
 * If the server returns an error, splice() returns it, and pipe and position
 * are unchanged.
 */
TEST_F(fuse, read_error)
{
	int expected = variant->how == PASSTHROUGH ? 100 : -EIO;
	loff_t off = 10;

	self->shared->read_error = EIO;
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, OTHER, 0));
	EXPECT_EQ(expected, xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(expected < 0 ? 10 : 110, off);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, OTHER, 0));
	off = 10;
	EXPECT_EQ(expected, xsendfile(self->p[1], self->fd, &off, 100));

	self->shared->read_error = 0;
	off = SIZE - 100;
	EXPECT_EQ(100, xsendfile(self->p[1], self->fd, &off, SOME));
	EXPECT_EQ(SIZE, off);
}

/*
 * Returns whether another process can use the pipe within @seconds. It shares
 * the descriptors: if it closed one of the mount at its end, it would wait for
 * the server.
 */
static bool is_usable(struct __test_metadata *_metadata, const int p[2],
		      int seconds)
{
	int i, status;
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(pipe_bytes(p[0]) ||
		      write_pattern(p[1], 10, OTHER, 0) != 10 ||
		      read_pattern(p[0], 10, OTHER, 0) != 10);
	for (i = 0; i < seconds * 100; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return !status;
		usleep(10000);
	}
	return false;
}

/*
 * vmsplice() of a mapping of the file waits for the server in a page fault, and
 * others can use the pipe meanwhile. Stock C holds the lock of the pipe.
 */
TEST_F_TIMEOUT(fuse, vmsplice_of_mapping, 60)
{
	struct iovec iov = { .iov_len = SOME };
	struct job job;
	bool usable;

	if (variant->how == PASSTHROUGH)
		SKIP(return, "the server gets no read request");
	iov.iov_base = mmap(NULL, SOME, PROT_READ, MAP_PRIVATE, self->fd, 0);
	ASSERT_NE(MAP_FAILED, iov.iov_base);
	self->shared->delay = true;
	job = job_vmsplice(self->p[1], &iov);
	job_start(_metadata, &job);
	while (!__atomic_load_n(&self->shared->nr_reads, __ATOMIC_SEQ_CST))
		usleep(1000);
	usable = is_usable(_metadata, self->p, have_counters() ? 10 : 1);
	__atomic_store_n(&self->shared->delay, false, __ATOMIC_SEQ_CST);
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	munmap(iov.iov_base, SOME);
	EXPECT_EQ(have_counters(), usable);
	if (!have_counters())
		XFAIL(return, "stock C: a page fault of vmsplice() holds the lock of the pipe");
}

/*
 * The server exits while splice() waits for it and holds the lock of the pipe.
 */
TEST_F(fuse, server_ends)
{
	struct job job = job_splice(self->fd, self->p[1], SOME);
	struct job reader;
	char buf[10];

	if (variant->how == PASSTHROUGH) {
		EXPECT_EQ(SOME, splice_full(self->fd, self->p[1], SOME));
		return;
	}
	reader = job_reader(self->p[0], buf, sizeof(buf));
	self->shared->hang = true;
	job_start(_metadata, &job);
	while (!__atomic_load_n(&self->shared->nr_reads, __ATOMIC_SEQ_CST))
		usleep(1000);
	job_start(_metadata, &reader);
	ASSERT_EQ(0, kill(self->server, SIGKILL));
	EXPECT_GT(0, job_finish(_metadata, &job));

	ASSERT_EQ(10, write_pattern(self->p[1], 10, OTHER, 0));
	EXPECT_EQ(10, job_finish(_metadata, &reader));
	EXPECT_EQ(10, match_pattern(buf, 10, OTHER, 0));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, OTHER, 0));
	EXPECT_GT(0, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, OTHER, 0));
}

TEST_HARNESS_MAIN
