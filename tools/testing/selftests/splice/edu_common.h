/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for the tests of splice_edu, the driver of an emulated PCI device
 * with a DMA engine (qemu -device edu). Data that is spliced to
 * /dev/splice-eduN can be spliced from it again.
 *
 * The device takes 100 ms to transfer a page, so these tests do not measure
 * speed.
 */
#ifndef EDU_COMMON_H
#define EDU_COMMON_H

#include "device_common.h"

#include <dirent.h>
#include <linux/splice_edu.h>

#define EDU_MODULE	"splice_edu"
#define EDU_DRIVER	"/sys/bus/pci/drivers/splice_edu/"
#define PCI_DEVICES	"/sys/bus/pci/devices/"

#define NO_EDU		"no PCI device 1234:11e8 (qemu -device edu)"

/* The limits of the data that the driver accepts before a task reads. */
#define EDU_PAGE	4096
#define EDU_REQUESTS	16
#define EDU_WAITING	(16 * EDU_PAGE)
#define EDU_MEMORY	EDU_PAGE

/* The number of pages that the driver has for data from the device. */
#define EDU_PAGES	32

/* So many bytes that the device stops until a task reads. */
#define STALL		(EDU_WAITING + EDU_MEMORY + 3 * EDU_PAGE)

/* Seeds: of the data, and of the filler before it. */
#define DATA 1
#define FILLER 2

/* Milliseconds without an event after which the device is idle or stopped. */
#define QUIET 500

static inline long pci_id(const char *bdf, const char *which)
{
	char path[PATH_MAX], text[32];

	snprintf(path, sizeof(path), PCI_DEVICES "%s/%s", bdf, which);
	return read_text(path, text, sizeof(text)) <= 0 ? -1 :
	       strtol(text, NULL, 0);
}

/* The address of a device on the bus, such as 0000:00:04.0. */
struct bdf {
	char name[32];
};

/* Finds devices, bound to a driver or not; returns how many, up to @max. */
static inline int edu_find(struct bdf *bdf, int max)
{
	DIR *dir = opendir(PCI_DEVICES);
	struct dirent *entry;
	int nr = 0;

	while (dir && nr < max && (entry = readdir(dir))) {
		if (pci_id(entry->d_name, "vendor") != 0x1234 ||
		    pci_id(entry->d_name, "device") != 0x11e8)
			continue;
		snprintf(bdf[nr++].name, sizeof(bdf->name), "%.31s",
			 entry->d_name);
	}
	if (dir)
		closedir(dir);
	return nr;
}

static inline bool have_edu(int nr)
{
	struct bdf bdf[8];

	return edu_find(bdf, ARRAY_LEN(bdf)) > nr;
}

static inline const char *edu_node(int nr)
{
	return nr ? "splice-edu1" : "splice-edu0";
}

static inline int edu_open(struct __test_metadata *_metadata, int nr, int flags)
{
	ASSERT_TRUE(have_node(edu_node(nr), EDU_MODULE));
	return open_node(_metadata, edu_node(nr), flags);
}

/*
 * Opens a device for both directions, and drains data that others left in it.
 */
static inline int edu_open_empty(struct __test_metadata *_metadata, int nr)
{
	int fd = edu_open(_metadata, nr, O_RDWR), p[2];
	struct job sync = job_fsync(fd);
	char buf[EDU_PAGE];
	bool synced;

	have_counters();
	make_pipe(_metadata, p);
	job_start(_metadata, &sync);
	/*
	 * After everything has been read, the last transfer may still complete.
	 */
	do {
		usleep(1000);
		synced = !pthread_tryjoin_np(sync.thread, NULL);
		while (poll_for(fd, POLLIN, QUIET) == POLLIN &&
		       xsplice(fd, NULL, p[1], NULL, sizeof(buf), 0) > 0)
			read_full(p[0], buf, pipe_bytes(p[0]));
	} while (!synced);
	close(p[0]);
	close(p[1]);
	return fd;
}

/* Expects that the device has no more data, and that all data was sent. */
static inline void edu_expect_empty(struct __test_metadata *_metadata, int fd)
{
	EXPECT_EQ(0, poll_for(fd, POLLIN, QUIET));
	EXPECT_EQ(POLLOUT, poll_now(fd, POLLIN | POLLOUT));
}

/* Sends the pattern in one request. The pipe has room for @len bytes. */
static inline void edu_send(struct __test_metadata *_metadata, int fd,
			    int p[2], ssize_t len, unsigned int seed,
			    loff_t pos)
{
	ASSERT_EQ(len, write_pattern(p[1], len, seed, pos));
	ASSERT_EQ(len, xsplice(p[0], NULL, fd, NULL, len, 0));
}

/*
 * Sends STALL bytes of filler: no later request starts before a task reads
 * them.
 */
static inline void edu_stall(struct __test_metadata *_metadata, int fd,
			     int p[2])
{
	edu_send(_metadata, fd, p, EDU_WAITING, FILLER, 0);
	edu_send(_metadata, fd, p, STALL - EDU_WAITING, FILLER, EDU_WAITING);
}

/* Reads the filler, so that later requests start. */
static inline void edu_unstall(struct __test_metadata *_metadata, int fd)
{
	ASSERT_EQ(STALL, receive_pattern(fd, STALL, FILLER, 0));
}

/* Waits until the device has stopped because its pages are all in use. */
static inline void edu_wait_stalled(struct __test_metadata *_metadata, int nr)
{
	ssize_t now = -1, before;

	do {
		before = now;
		usleep(QUIET * 1000);
		now = node_counter(edu_node(nr), "bytes.dma.out") +
		      node_counter(edu_node(nr), "bytes.dma.in");
		ASSERT_LE(0, now);
	} while (now != before);
}

/*
 * Queues pages of filler until the queue is full and stays full. Returns the
 * number of bytes queued; one more page of filler is in the pipe.
 */
static inline ssize_t edu_fill(struct __test_metadata *_metadata, int fd,
			       int p[2])
{
	ssize_t sum, ret;

	for (sum = 0;; sum += EDU_PAGE) {
		ASSERT_EQ(EDU_PAGE, write_pattern(p[1], EDU_PAGE, FILLER, sum));
		do {
			ret = xsplice(p[0], NULL, fd, NULL, EDU_PAGE,
				      SPLICE_F_NONBLOCK);
		} while (ret == -EAGAIN && poll_for(fd, POLLOUT, QUIET) > 0);
		if (ret == -EAGAIN)
			break;
		ASSERT_EQ(EDU_PAGE, ret);
	}
	EXPECT_LE(EDU_REQUESTS * EDU_PAGE, sum);
	EXPECT_GE(EDU_REQUESTS * EDU_PAGE + EDU_WAITING + EDU_MEMORY, sum);
	return sum;
}

/* Whether the device @nr can access only memory that is mapped for it. */
static inline bool edu_has_iommu(int nr)
{
	struct bdf bdf[8];
	char path[PATH_MAX];

	if (edu_find(bdf, ARRAY_LEN(bdf)) <= nr)
		return false;
	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group",
		 bdf[nr].name);
	return !access(path, F_OK);
}

/*
 * Transfers bytes between a dma-buf and the device by DMA. Waits until earlier
 * transfers have ended. Returns 0 or the negated errno.
 */
static inline ssize_t edu_transfer(int fd, int buf, unsigned int flags,
				   __u64 offset, unsigned int bytes)
{
	struct splice_edu_transfer arg = {
		.fd = buf, .flags = flags, .offset = offset, .bytes = bytes,
	};
	ssize_t ret;

	do {
		ret = or_errno(ioctl(fd, SPLICE_EDU_TRANSFER, &arg));
	} while (ret == -EBUSY && !usleep(1000));
	return ret;
}

#endif /* EDU_COMMON_H */
