// SPDX-License-Identifier: GPL-2.0

#include <linux/pagemap.h>

__rust_helper void rust_helper_folio_lock(struct folio *folio)
{
	folio_lock(folio);
}

/* bindgen does not generate the members of struct folio. */
__rust_helper struct address_space *
rust_helper_folio_raw_mapping(const struct folio *folio)
{
	return folio->mapping;
}
