// Runs the tests of the core. `core_test --help` lists doctest's options; `-ts=plan` runs the tests
// of plan_test.cc.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "testing.h"
