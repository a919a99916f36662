// Runs every test of the core; arguments choose those whose names have one of them in it.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "testing.h"

namespace yolotf {
namespace {

struct Test {
  const char* name;
  void (*run)();
};

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

}  // namespace

Registered::Registered(const char* name, void (*run)()) { tests().push_back({name, run}); }

}  // namespace yolotf

int main(int count, char** arguments) {
  int passed = 0;
  int failed = 0;
  for (const auto& test : yolotf::tests()) {
    bool chosen = count == 1;
    for (int i = 1; i < count; ++i) {
      chosen = chosen || std::string(test.name).find(arguments[i]) != std::string::npos;
    }
    if (!chosen) {
      continue;
    }
    try {
      test.run();
      ++passed;
    } catch (const std::exception& error) {
      std::printf("%s: %s\n", test.name, error.what());
      ++failed;
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
