// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

/*
 * bindgen does not generate the members of an anonymous union that has a tag.
 * All of @pipe's indices are in this union.
 */
__rust_helper union pipe_index *
rust_helper_pipe_index_of(struct pipe_inode_info *pipe)
{
	return (union pipe_index *)&pipe->head_tail;
}

__rust_helper bool rust_helper_pipe_buf_get(struct pipe_inode_info *pipe,
					    struct pipe_buffer *buf)
{
	return pipe_buf_get(pipe, buf);
}

__rust_helper void rust_helper_pipe_buf_release(struct pipe_inode_info *pipe,
						struct pipe_buffer *buf)
{
	pipe_buf_release(pipe, buf);
}

__rust_helper int rust_helper_pipe_buf_confirm(struct pipe_inode_info *pipe,
					       struct pipe_buffer *buf)
{
	return pipe_buf_confirm(pipe, buf);
}

__rust_helper bool rust_helper_pipe_buf_try_steal(struct pipe_inode_info *pipe,
						  struct pipe_buffer *buf)
{
	return pipe_buf_try_steal(pipe, buf);
}

__rust_helper void rust_helper_pipe_wake_readers(struct pipe_inode_info *pipe)
{
	/*
	 * The caller has changed head or tail. Order that before the check for
	 * waiters below. This pairs with the barrier of a waiter, which adds
	 * itself to the queue before it checks head and tail.
	 */
	smp_mb();
	/*
	 * Either the check below sees the waiter, or the waiter sees the change
	 * and does not sleep.
	 */
	if (waitqueue_active(&pipe->rd_wait))
		wake_up_interruptible(&pipe->rd_wait);
	/*
	 * kill_fasync() begins with the same check without a lock. It is done
	 * here to save the call.
	 */
	if (READ_ONCE(pipe->fasync_readers))
		kill_fasync(&pipe->fasync_readers, SIGIO, POLL_IN);
}

__rust_helper void rust_helper_pipe_wake_writers(struct pipe_inode_info *pipe)
{
	/*
	 * The caller has changed the tail. Order that before the check for
	 * waiters below, see rust_helper_pipe_wake_readers().
	 */
	smp_mb();
	/*
	 * Either the check below sees the waiter, or the waiter sees the change
	 * and does not sleep.
	 */
	if (waitqueue_active(&pipe->wr_wait))
		wake_up_interruptible(&pipe->wr_wait);
	/*
	 * kill_fasync() begins with the same check. It is done here to save the
	 * call.
	 */
	if (READ_ONCE(pipe->fasync_writers))
		kill_fasync(&pipe->fasync_writers, SIGIO, POLL_OUT);
}

/* Sleeps until no task has reserved room in @pipe, which is not locked. */
__rust_helper void
rust_helper_pipe_wait_unreserved(struct pipe_inode_info *pipe)
{
	/* Giving room back wakes writers. A signal ends the wait. */
	wait_event_interruptible(pipe->wr_wait,
				 READ_ONCE(pipe->max_usage) ==
					 READ_ONCE(pipe->nr_accounted));
}
