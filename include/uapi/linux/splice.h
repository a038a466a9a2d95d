/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * vmsplice(2) with a notice: learning when the kernel is done with memory that
 * was put into a pipe. See Documentation/filesystems/splice-notify.rst.
 */
#ifndef _UAPI_LINUX_SPLICE_H
#define _UAPI_LINUX_SPLICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * A flag of vmsplice(2) on the write end of a pipe: asks for a notification when
 * the memory of this call is released. Each such call that puts something into
 * the pipe gets the pipe's next number, starting with 1.
 */
#define SPLICE_F_NOTIFY		0x10

/* A flag of struct splice_notify_state: wait until @number is released. */
#define SPLICE_NOTIFY_WAIT	0x1

/**
 * struct splice_notify_state - how far the kernel is with a pipe's calls
 * @flags: in: 0, or SPLICE_NOTIFY_WAIT
 * @reserved: in: 0
 * @number: in: with SPLICE_NOTIFY_WAIT the number to wait for, else 0
 * @issued: out: the number of the latest call, 0 if there was none
 * @released: out: of this call and all before it nothing is in use any more,
 *	wherever the data went
 */
struct splice_notify_state {
	__u32 flags;
	__u32 reserved;
	__u64 number;
	__u64 issued;
	__u64 released;
};

/* Reads the state, on the write end of a pipe. */
#define SPLICE_IOC_NOTIFY_STATE	_IOWR(0xBB, 0x00, struct splice_notify_state)

/*
 * Signals an eventfd whenever @released changes, instead of the one so far; -1:
 * none.
 */
#define SPLICE_IOC_NOTIFY_EVENTFD _IOW(0xBB, 0x01, __s32)

#endif
