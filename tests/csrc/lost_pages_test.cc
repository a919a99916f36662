#include "weights/lost_pages.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "folder.h"
#include "testing.h"

TEST_SUITE_BEGIN("lost_pages");

namespace yolotf {
namespace {

constexpr std::size_t kBytes = 1 << 20;

// A mapped file of ones that can be truncated.
class Mapping {
 public:
  Mapping() : path_(folder_.file(std::string(kBytes, '\1'))) {
    const int descriptor = open(path_.c_str(), O_RDONLY);
    void* mapping = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    REQUIRE(mapping != MAP_FAILED);
    bytes = static_cast<const volatile char*>(mapping);
  }
  ~Mapping() { munmap(const_cast<char*>(bytes), kBytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  void* address() const { return const_cast<char*>(bytes); }
  void truncate(off_t size) const { REQUIRE(::truncate(path_.c_str(), size) == 0); }
  long sum() const {
    long total = 0;
    for (std::size_t i = 0; i < kBytes; ++i) {
      total += bytes[i];
    }
    return total;
  }

  const volatile char* bytes;

 private:
  Folder folder_;
  std::string path_;
};

struct sigaction handler() {
  struct sigaction current = {};
  REQUIRE(sigaction(SIGBUS, nullptr, &current) == 0);
  return current;
}

// Removes other handlers, such as a sanitizer's, during its lifetime.
class DefaultHandler {
 public:
  DefaultHandler() : before_(handler()) { signal(SIGBUS, SIG_DFL); }
  ~DefaultHandler() { sigaction(SIGBUS, &before_, nullptr); }
  DefaultHandler(const DefaultHandler&) = delete;
  DefaultHandler& operator=(const DefaultHandler&) = delete;

 private:
  struct sigaction before_;
};

bool is_default() {
  const struct sigaction current = handler();
  return (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == SIG_DFL;
}

// Runs `work` in a child process and returns the signal that ends it; 0 if none does. `work` must
// use REQUIRE, which throws and so ends the child with an error.
int ended_by(const std::function<void()>& work) {
  const pid_t process = fork();
  REQUIRE(process >= 0);
  if (process == 0) {
    alarm(20);
    try {
      work();
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(process, &status, 0) == process);
  REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("lost pages are read as zeros and reported") {
  const DefaultHandler alone;
  const Mapping mapping;
  PageGuard guard;
  REQUIRE(guard.begin(mapping.address(), kBytes));
  REQUIRE(mapping.sum() == kBytes);
  REQUIRE(!guard.lost());
  mapping.truncate(kBytes / 2);
  REQUIRE(!guard.lost());  // not read yet
  REQUIRE(mapping.sum() <= static_cast<long>(kBytes / 2));
  REQUIRE(guard.lost());
  REQUIRE(mapping.sum() == 0);
  guard.end();
  REQUIRE(!guard.lost());
  REQUIRE(is_default());
}

TEST_CASE("without a guard, or after it, a lost page ends the process") {
  const DefaultHandler alone;
  for (const bool guarded : {false, true}) {
    const int signal_number = ended_by([&] {
      const Mapping mapping;
      PageGuard guard;
      if (guarded) {
        REQUIRE(guard.begin(mapping.address(), kBytes));
      }
      guard.end();
      mapping.truncate(0);
      mapping.sum();
    });
    REQUIRE(signal_number == SIGBUS);
  }
}

TEST_CASE("many threads may lose their pages at once") {
  const DefaultHandler alone;
  constexpr int kThreads = 8;
  std::vector<std::unique_ptr<Mapping>> mappings;
  std::vector<std::unique_ptr<PageGuard>> guards;
  for (int i = 0; i < kThreads; ++i) {
    mappings.push_back(std::make_unique<Mapping>());
    guards.push_back(std::make_unique<PageGuard>());
    REQUIRE(guards.back()->begin(mappings.back()->address(), kBytes));
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4 * kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Mapping& mapping = *mappings[static_cast<std::size_t>(i % kThreads)];
      for (int times = 0; times < 4; ++times) {
        mapping.sum();
        mapping.truncate(0);
      }
      CHECK(mapping.sum() == 0);  // not REQUIRE, which would throw out of the thread
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::unique_ptr<PageGuard>& guard : guards) {
    REQUIRE(guard->lost());
  }
}

TEST_CASE("guards end in any order, and their number is limited") {
  const DefaultHandler alone;
  const Mapping mapping;
  std::vector<std::unique_ptr<PageGuard>> guards;
  std::size_t begun = 0;
  for (int i = 0; i < 1000; ++i) {
    guards.push_back(std::make_unique<PageGuard>());
    begun += guards.back()->begin(mapping.address(), kBytes) ? 1 : 0;
  }
  REQUIRE(begun >= 16);
  REQUIRE(begun < 1000);
  guards.front()->end();
  REQUIRE(guards.back()->begin(mapping.address(), kBytes));
  REQUIRE(!is_default());
  guards.clear();
  REQUIRE(is_default());
}

volatile sig_atomic_t calls = 0;

// Replaces a lost page by twos.
void repair(int, siginfo_t* info, void*) {
  calls = calls + 1;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  char* const begin =
      static_cast<char*>(info->si_addr) - reinterpret_cast<std::uintptr_t>(info->si_addr) % page;
  if (mmap(begin, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
      begin) {
    std::memset(begin, 2, page);
  }
}

TEST_CASE("faults elsewhere go to the previous handler") {
  const DefaultHandler alone;
  struct sigaction theirs = {};
  theirs.sa_sigaction = &repair;
  theirs.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGBUS, &theirs, nullptr) == 0);
  const Mapping mapping;
  PageGuard guard;
  for (int times = 1; times <= 3; ++times) {
    REQUIRE(guard.begin(mapping.address(), kBytes));
    const Mapping other;
    other.truncate(0);
    REQUIRE(other.bytes[kBytes / 2] == 2);
    REQUIRE(calls == times);
    REQUIRE(!guard.lost());
    REQUIRE(mapping.sum() == kBytes);
    guard.end();
    REQUIRE((handler().sa_sigaction == &repair));
  }
  signal(SIGBUS, SIG_DFL);
}

struct sigaction ours = {};

void pass_back(int number, siginfo_t* info, void* context) {
  calls = calls + 1;
  ours.sa_sigaction(number, info, context);
}

TEST_CASE("a later handler that passes faults on makes no circle") {
  const DefaultHandler alone;
  calls = 0;
  const int signal_number = ended_by([] {
    const Mapping mapping;
    const Mapping other;
    PageGuard first;
    PageGuard second;
    REQUIRE(first.begin(mapping.address(), kBytes));
    ours = handler();
    struct sigaction theirs = {};
    theirs.sa_sigaction = &pass_back;
    theirs.sa_flags = SA_SIGINFO;
    REQUIRE(sigaction(SIGBUS, &theirs, nullptr) == 0);
    REQUIRE(second.begin(other.address(), kBytes));  // replaces their handler
    other.truncate(0);
    REQUIRE(other.sum() == 0);
    REQUIRE(second.lost());
    REQUIRE(calls == 0);
    first.end();
    second.end();
    REQUIRE((handler().sa_sigaction == &pass_back));
    const Mapping third;
    third.truncate(0);
    third.sum();
  });
  REQUIRE(signal_number == SIGBUS);
}

TEST_CASE("a signal that another process sends is handled as before") {
  const DefaultHandler alone;
  const Mapping mapping;
  PageGuard guard;
  REQUIRE(guard.begin(mapping.address(), kBytes));
  REQUIRE(ended_by([] { kill(getpid(), SIGBUS); }) == SIGBUS);
  guard.end();
  signal(SIGBUS, SIG_IGN);
  REQUIRE(guard.begin(mapping.address(), kBytes));
  REQUIRE(ended_by([] { kill(getpid(), SIGBUS); }) == 0);
  const Mapping other;
  other.truncate(0);
  REQUIRE(ended_by([&] { other.sum(); }) == SIGBUS);  // a fault is never ignored
  guard.end();
  signal(SIGBUS, SIG_DFL);
}

TEST_CASE("a forked child is guarded, too") {
  const DefaultHandler alone;
  const Mapping mapping;
  PageGuard guard;
  REQUIRE(guard.begin(mapping.address(), kBytes));
  mapping.truncate(0);
  const int signal_number = ended_by([&] {
    REQUIRE(mapping.sum() == 0);
    REQUIRE(guard.lost());
    const Mapping own;
    PageGuard another;
    REQUIRE(another.begin(own.address(), kBytes));
    own.truncate(0);
    REQUIRE(own.sum() == 0);
    REQUIRE(another.lost());
  });
  REQUIRE(signal_number == 0);
  REQUIRE(!guard.lost());
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
