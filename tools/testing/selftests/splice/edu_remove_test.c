// SPDX-License-Identifier: GPL-2.0
/*
 * Removal of a device with a DMA engine while it is in use. All waiting calls
 * return an error, memory that it used is released, and the device works again
 * after it is added again.
 */
#include "edu_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

/* Two buffers, the second one partly filled. */
#define SOME 5000

/*
 * More than the driver accepts: the sender still waits at the time of removal.
 */
#define MUCH (2 << 20)

#define ROUNDS 5

#define PCI_RESCAN "/sys/bus/pci/rescan"

enum how {
	UNBIND,			/* unbinds the device from its driver */
	REMOVE,			/* removes the device from the bus until a rescan */
};

FIXTURE(gone) {
	struct bdf bdf;
	int fd;
	int p[2];
	int q[2];
};

FIXTURE_VARIANT(gone) {
	enum how how;
};

FIXTURE_VARIANT_ADD(gone, unbind) {
	.how = UNBIND,
};

FIXTURE_VARIANT_ADD(gone, remove) {
	.how = REMOVE,
};

static bool is_there(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", edu_node(0));
	return !access(path, F_OK);
}

static void expect_written(struct __test_metadata *_metadata, const char *path,
			   const char *text)
{
	ASSERT_EQ(strlen(text), write_text(path, text)) {
		TH_LOG("%s to %s", text, path);
	}
}

static void take_away(struct __test_metadata *_metadata, enum how how,
		      const struct bdf *bdf)
{
	char path[PATH_MAX];

	if (how == UNBIND) {
		expect_written(_metadata, EDU_DRIVER "unbind", bdf->name);
		return;
	}
	snprintf(path, sizeof(path), PCI_DEVICES "%s/remove", bdf->name);
	expect_written(_metadata, path, "1");
}

static void bring_back(struct __test_metadata *_metadata, enum how how,
		       const struct bdf *bdf)
{
	if (how == UNBIND)
		expect_written(_metadata, EDU_DRIVER "bind", bdf->name);
	else
		expect_written(_metadata, PCI_RESCAN, "1");
}

/* Restores all devices and their drivers after a test that failed. */
static void bring_all_back(void)
{
	struct bdf bdf[8];
	int nr, i;

	/* If the driver is not loaded, no test has removed a device. */
	if (access(EDU_DRIVER, F_OK))
		return;
	write_text(PCI_RESCAN, "1");
	nr = edu_find(bdf, ARRAY_LEN(bdf));
	/* This fails for devices that are bound to the driver. */
	for (i = 0; i < nr; i++)
		write_text(EDU_DRIVER "bind", bdf[i].name);
}

/* Finds the device whose node disappears with it. */
static struct bdf find_first(struct __test_metadata *_metadata)
{
	struct bdf bdf[8];
	int nr = edu_find(bdf, ARRAY_LEN(bdf)), i;
	bool found = false;

	for (i = 0; i < nr; i++) {
		take_away(_metadata, UNBIND, &bdf[i]);
		found = !is_there();
		bring_back(_metadata, UNBIND, &bdf[i]);
		if (found)
			break;
	}
	ASSERT_TRUE(found);
	ASSERT_TRUE(is_there());
	return bdf[i];
}

FIXTURE_SETUP(gone)
{
	bring_all_back();
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	ASSERT_TRUE(have_node(edu_node(0), EDU_MODULE));
	self->bdf = find_first(_metadata);
	self->fd = edu_open_empty(_metadata, 0);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(gone)
{
	if (self->bdf.name[0])
		bring_all_back();
}

/* Whether a call may return this if its transfer was in progress or queued. */
static bool is_cut_off(ssize_t ret)
{
	return ret == -EIO || ret == -ENODEV;
}

/* The open descriptor returns errors, and a new one works. */
static void check_gone(struct __test_metadata *_metadata,
		       struct _test_data_gone *self, enum how how)
{
	int r[2];

	make_pipe(_metadata, r);
	EXPECT_FALSE(is_there());
	EXPECT_EQ(POLLERR | POLLHUP, poll_now(self->fd, 0));
	EXPECT_EQ(-ENODEV, xsplice(self->fd, NULL, r[1], NULL, SOME, 0));
	ASSERT_EQ(SOME, write_pattern(r[1], SOME, DATA, 0));
	EXPECT_EQ(-ENODEV, xsplice(r[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(r[0], SOME, DATA, 0));

	bring_back(_metadata, how, &self->bdf);
	ASSERT_TRUE(is_there());
	EXPECT_EQ(-ENODEV, xsplice(self->fd, NULL, r[1], NULL, SOME, 0));
	/*
	 * One error is reported if a transfer was cut off and no call has
	 * returned it.
	 */
	EXPECT_TRUE(is_cut_off(or_errno(fsync(self->fd))));
	EXPECT_EQ(-ENODEV, or_errno(fsync(self->fd)));
	close(self->fd);
	self->fd = edu_open(_metadata, 0, O_RDWR);
	edu_send(_metadata, self->fd, r, SOME, DATA, 0);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	edu_expect_empty(_metadata, self->fd);
}

TEST_F_TIMEOUT(gone, idle, 60)
{
	take_away(_metadata, variant->how, &self->bdf);
	check_gone(_metadata, self, variant->how);
}

/* One thread waits for data, another waits in poll() for POLLIN. */
TEST_F_TIMEOUT(gone, waiting_for_data, 60)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN };
	struct job splice = job_splice(self->fd, self->q[1], SOME);
	struct job poll = job_poll(&pfd);

	job_start(_metadata, &splice);
	job_wait_blocked(&splice);
	job_start(_metadata, &poll);
	job_wait_blocked(&poll);
	take_away(_metadata, variant->how, &self->bdf);
	EXPECT_EQ(-ENODEV, job_finish(_metadata, &splice));
	EXPECT_EQ(1, job_finish(_metadata, &poll));
	EXPECT_EQ(POLLERR | POLLHUP, pfd.revents);
	check_gone(_metadata, self, variant->how);
}

/* The queue is full. Data that had no room in the queue stays in the pipe. */
TEST_F_TIMEOUT(gone, waiting_for_room, 60)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLOUT };
	struct job splice = job_splice(self->p[0], self->fd, EDU_PAGE);
	struct job sync = job_fsync(self->fd);
	struct job poll = job_poll(&pfd);
	ssize_t sum = edu_fill(_metadata, self->fd, self->p);

	job_start(_metadata, &splice);
	job_wait_blocked(&splice);
	job_start(_metadata, &sync);
	job_wait_blocked(&sync);
	job_start(_metadata, &poll);
	job_wait_blocked(&poll);
	take_away(_metadata, variant->how, &self->bdf);
	EXPECT_EQ(-ENODEV, job_finish(_metadata, &splice));
	EXPECT_EQ(-EIO, job_finish(_metadata, &sync));
	EXPECT_EQ(-ENODEV, or_errno(fsync(self->fd)));
	EXPECT_EQ(1, job_finish(_metadata, &poll));
	EXPECT_EQ(POLLERR | POLLHUP, pfd.revents);
	EXPECT_EQ(EDU_PAGE, read_pattern(self->p[0], EDU_PAGE, FILLER, sum));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	check_gone(_metadata, self, variant->how);
}

/* A synchronous call whose transfer does not take place. */
TEST_F_TIMEOUT(gone, waiting_for_transfer, 60)
{
	int sync = edu_open(_metadata, 0, O_WRONLY | O_SYNC);
	struct job job = job_splice(self->p[0], sync, SOME);

	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	take_away(_metadata, variant->how, &self->bdf);
	EXPECT_EQ(-EIO, job_finish(_metadata, &job));
	EXPECT_EQ(-EIO, or_errno(fsync(sync)));
	close(sync);
	check_gone(_metadata, self, variant->how);
}

/* The caller is killed while the device that it waits for is being removed. */
TEST_F_TIMEOUT(gone, killed, 60)
{
	struct job job = job_splice(self->fd, self->q[1], SOME);
	pid_t pid = job_fork_waiting(_metadata, &job);

	ASSERT_EQ(0, kill(pid, SIGKILL));
	take_away(_metadata, variant->how, &self->bdf);
	/* The call may have returned before it was killed. */
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	check_gone(_metadata, self, variant->how);
}

/* Queued memory is released, and its owner gets the notification. */
TEST_F_TIMEOUT(gone, gives_back, 60)
{
	int file = make_memfd(_metadata, SOME, DATA);
	char *mem = alloc_pattern(_metadata, SOME, DATA);

	if (xnotify(self->p[1], mem, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	/*
	 * The device may have read from the first request, but reads none of
	 * the others.
	 */
	ASSERT_EQ(SOME, xnotify(self->p[1], mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	ASSERT_EQ(SOME, xsendfile(self->fd, file, NULL, SOME));
	take_away(_metadata, variant->how, &self->bdf);
	EXPECT_EQ(2, wait_released(self->p[1], 2));
	expect_unreferenced(_metadata, file);
	expect_no_pins(_metadata);
	check_gone(_metadata, self, variant->how);
	free(mem);
}

/* Data from the device that is in a pipe stays valid after the removal. */
TEST_F_TIMEOUT(gone, leaves_pages, 60)
{
	ssize_t len = 2 * EDU_PAGE, got = 0, ret;
	int r[2];

	make_pipe(_metadata, r);
	edu_send(_metadata, self->fd, self->p, len, FILLER, 0);
	for (; got < len; got += ret) {
		ret = xsplice(self->fd, NULL, self->q[1], NULL, len, 0);
		ASSERT_LT(0, ret);
	}
	ASSERT_EQ(len, xtee(self->q[0], r[1], len, 0));
	take_away(_metadata, variant->how, &self->bdf);
	EXPECT_EQ(len, read_pattern(r[0], len, FILLER, 0));
	check_gone(_metadata, self, variant->how);
	EXPECT_EQ(len, read_pattern(self->q[0], len, FILLER, 0));
}

/*
 * Removes the device during transfers, repeatedly. All data that arrives is
 * correct.
 */
TEST_F_TIMEOUT(gone, busy, 240)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		struct relay out = {
			.in = make_memfd(_metadata, MUCH, DATA),
			.out = self->fd, .len = MUCH,
		};
		struct relay in = {
			.in = self->fd, .out = memfd_create("splice", 0),
			.len = MUCH,
		};

		ASSERT_LE(0, in.out);
		relay_start(_metadata, &out);
		relay_start(_metadata, &in);
		while (relay_done(&in) < i * SOME)
			usleep(1000);
		take_away(_metadata, variant->how, &self->bdf);
		EXPECT_EQ(-ENODEV, relay_finish(_metadata, &out));
		EXPECT_EQ(-ENODEV, relay_finish(_metadata, &in));
		EXPECT_LE(in.done, out.done);
		expect_file(_metadata, in.out, in.done, DATA, 0);
		expect_unreferenced(_metadata, out.in);
		check_gone(_metadata, self, variant->how);
		close(out.in);
		close(in.out);
	}
}

/* The module cannot be unloaded while it is in use. */
TEST_F_TIMEOUT(gone, module, 60)
{
	const char *fixed = module_is_fixed(EDU_MODULE);
	ssize_t ret;

	if (fixed)
		SKIP(return, "%s", fixed);
	EXPECT_EQ(-EWOULDBLOCK, unload_module(EDU_MODULE));
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	ASSERT_EQ(100, xsplice(self->fd, NULL, self->q[1], NULL, 100, 0));
	close(self->fd);
	/* Open files and pages in a pipe both keep the module in use. */
	ret = unload_module(EDU_MODULE);
	EXPECT_TRUE(!ret || ret == -EWOULDBLOCK);
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	if (ret)
		EXPECT_EQ(0, unload_module(EDU_MODULE));
	EXPECT_FALSE(is_there());
	self->fd = edu_open(_metadata, 0, O_RDWR);
	edu_send(_metadata, self->fd, self->p, SOME, DATA, 0);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

TEST_HARNESS_MAIN
