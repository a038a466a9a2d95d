// SPDX-License-Identifier: GPL-2.0

#include <linux/uaccess.h>

__rust_helper void rust_helper_pagefault_disable(void)
{
	pagefault_disable();
}

__rust_helper void rust_helper_pagefault_enable(void)
{
	pagefault_enable();
}
