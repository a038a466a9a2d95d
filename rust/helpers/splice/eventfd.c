// SPDX-License-Identifier: GPL-2.0

#include <linux/eventfd.h>

/* Without CONFIG_EVENTFD these are inline functions. */
__rust_helper struct eventfd_ctx *rust_helper_eventfd_ctx_fdget(int fd)
{
	return eventfd_ctx_fdget(fd);
}

__rust_helper void rust_helper_eventfd_ctx_put(struct eventfd_ctx *ctx)
{
	eventfd_ctx_put(ctx);
}

__rust_helper void rust_helper_eventfd_signal_mask(struct eventfd_ctx *ctx, __poll_t mask)
{
	eventfd_signal_mask(ctx, mask);
}
