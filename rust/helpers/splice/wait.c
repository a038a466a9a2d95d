// SPDX-License-Identifier: GPL-2.0

#include <linux/wait.h>

__rust_helper int rust_helper_splice_wait_released(struct wait_queue_head *wq,
						   const u64 *released,
						   u64 number)
{
	return wait_event_interruptible(*wq,
		/*
		 * Pairs with the release in the drop of a NotifiedCall, which
		 * follows all use of the memory.
		 */
		smp_load_acquire(released) >= number);
}
