/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Notifications of vmsplice(2): they tell user space when the kernel is done
 * with memory that was put into a pipe. See
 * Documentation/filesystems/splice-notify.rst.
 */
#ifndef _UAPI_LINUX_SPLICE_H
#define _UAPI_LINUX_SPLICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * A flag of vmsplice(2) on the write end of a pipe: request a notification when
 * the memory of this call is released. Each such call that puts data into the
 * pipe gets the next number of the pipe. The first number is 1.
 */
#define SPLICE_F_NOTIFY		0x10

/* A flag of struct splice_notify_state: wait until call @number is released. */
#define SPLICE_NOTIFY_WAIT	0x1

/**
 * struct splice_notify_state - state of the notifications of a pipe
 * @flags: in: 0 or SPLICE_NOTIFY_WAIT
 * @reserved: in: 0
 * @number: in: the number to wait for if SPLICE_NOTIFY_WAIT is set, else 0
 * @issued: out: the number of the latest call, or 0 if there was none
 * @released: out: the number of the latest call for which the kernel uses
 *	neither its memory nor that of any earlier call, wherever the data went
 */
struct splice_notify_state {
	__u32 flags;
	__u32 reserved;
	__u64 number;
	__u64 issued;
	__u64 released;
};

/* Get the state. Issue this ioctl on the write end of a pipe. */
#define SPLICE_IOC_NOTIFY_STATE	_IOWR(0xBB, 0x00, struct splice_notify_state)

/*
 * Set the eventfd that is signalled each time @released changes. It replaces
 * the one that was set before. -1 stops the signals.
 */
#define SPLICE_IOC_NOTIFY_EVENTFD _IOW(0xBB, 0x01, __s32)

#endif
