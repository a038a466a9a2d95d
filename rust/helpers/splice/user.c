// SPDX-License-Identifier: GPL-2.0

#include <linux/cred.h>
#include <linux/sched/user.h>

__rust_helper struct user_struct *rust_helper_current_user(void)
{
	return current_user();
}

__rust_helper struct user_struct *rust_helper_get_uid(struct user_struct *user)
{
	return get_uid(user);
}
