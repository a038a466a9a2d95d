#include "splice_common.h"
TEST(x) {}
TEST_HARNESS_MAIN
