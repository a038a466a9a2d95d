// SPDX-License-Identifier: GPL-2.0

#include <linux/memremap.h>

__rust_helper bool rust_helper_folio_is_fsdax(const struct folio *folio)
{
	return folio_is_fsdax(folio);
}
