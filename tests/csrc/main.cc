// Runs the tests of the core; `core_test --help` lists doctest's options, as `-ts=plan` for one
// file.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "testing.h"
