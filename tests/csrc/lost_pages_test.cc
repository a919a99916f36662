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
    CHECK(mapping != MAP_FAILED);
    bytes = static_cast<const volatile char*>(mapping);
  }
  ~Mapping() { munmap(const_cast<char*>(bytes), kBytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  void* address() const { return const_cast<char*>(bytes); }
  void truncate(off_t size) const { CHECK(::truncate(path_.c_str(), size) == 0); }
  long sum() const {
    long all = 0;
    for (std::size_t i = 0; i < kBytes; ++i) {
      all += bytes[i];
    }
    return all;
  }

  const volatile char* bytes;

 private:
  Folder folder_;
  std::string path_;
};

struct sigaction handler() {
  struct sigaction current = {};
  CHECK(sigaction(SIGBUS, nullptr, &current) == 0);
  return current;
}

bool is_default() {
  const struct sigaction current = handler();
  return (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == SIG_DFL;
}

// The signal that ends a process which runs `work`; 0 if it ends by itself.
int ended_by(const std::function<void()>& work) {
  const pid_t process = fork();
  CHECK(process >= 0);
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
  CHECK(waitpid(process, &status, 0) == process);
  CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(lost_pages_read_as_zeros_and_are_known) {
  const Mapping mapping;
  PageGuard guard;
  CHECK(guard.begin(mapping.address(), kBytes));
  CHECK(mapping.sum() == kBytes && !guard.lost());
  mapping.truncate(kBytes / 2);
  CHECK(!guard.lost());  // nobody has touched them
  CHECK(mapping.sum() <= static_cast<long>(kBytes / 2) && guard.lost());
  CHECK(mapping.sum() == 0);
  guard.end();
  CHECK(!guard.lost() && is_default());
}

TEST(without_a_guard_or_after_it_a_lost_page_ends_the_process) {
  for (const bool guarded : {false, true}) {
    CHECK(ended_by([&] {
            const Mapping mapping;
            PageGuard guard;
            if (guarded) {
              CHECK(guard.begin(mapping.address(), kBytes));
            }
            guard.end();
            mapping.truncate(0);
            mapping.sum();
          }) == SIGBUS);
  }
}

TEST(many_threads_lose_their_pages_at_once) {
  constexpr int kThreads = 8;
  std::vector<std::unique_ptr<Mapping>> mappings;
  std::vector<std::unique_ptr<PageGuard>> guards;
  for (int i = 0; i < kThreads; ++i) {
    mappings.push_back(std::make_unique<Mapping>());
    guards.push_back(std::make_unique<PageGuard>());
    CHECK(guards.back()->begin(mappings.back()->address(), kBytes));
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4 * kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Mapping& mapping = *mappings[static_cast<std::size_t>(i % kThreads)];
      for (int times = 0; times < 4; ++times) {
        mapping.sum();
        mapping.truncate(0);
      }
      CHECK(mapping.sum() == 0);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::unique_ptr<PageGuard>& guard : guards) {
    CHECK(guard->lost());
  }
}

TEST(guards_end_in_any_order_and_there_are_not_endless_many) {
  const Mapping mapping;
  std::vector<std::unique_ptr<PageGuard>> guards;
  std::size_t begun = 0;
  for (int i = 0; i < 1000; ++i) {
    guards.push_back(std::make_unique<PageGuard>());
    begun += guards.back()->begin(mapping.address(), kBytes) ? 1 : 0;
  }
  CHECK(begun >= 16 && begun < 1000);
  guards.front()->end();
  CHECK(guards.back()->begin(mapping.address(), kBytes) && !is_default());
  guards.clear();
  CHECK(is_default());
}

volatile sig_atomic_t calls = 0;

// Puts twos into the place of the lost pages.
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

TEST(faults_elsewhere_go_to_the_handler_that_was_there) {
  struct sigaction theirs = {};
  theirs.sa_sigaction = &repair;
  theirs.sa_flags = SA_SIGINFO;
  CHECK(sigaction(SIGBUS, &theirs, nullptr) == 0);
  const Mapping mapping;
  PageGuard guard;
  for (int times = 1; times <= 3; ++times) {
    CHECK(guard.begin(mapping.address(), kBytes));
    const Mapping other;
    other.truncate(0);
    CHECK(other.bytes[kBytes / 2] == 2 && calls == times);
    CHECK(!guard.lost() && mapping.sum() == kBytes);
    guard.end();
    CHECK(handler().sa_sigaction == &repair);
  }
  signal(SIGBUS, SIG_DFL);
}

struct sigaction ours = {};

void pass_back(int number, siginfo_t* info, void* context) {
  calls = calls + 1;
  ours.sa_sigaction(number, info, context);
}

TEST(a_handler_above_that_passes_faults_on_makes_no_circle) {
  calls = 0;
  const int signal_number = ended_by([] {
    const Mapping mapping;
    const Mapping other;
    PageGuard first;
    PageGuard second;
    CHECK(first.begin(mapping.address(), kBytes));
    ours = handler();
    struct sigaction theirs = {};
    theirs.sa_sigaction = &pass_back;
    theirs.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGBUS, &theirs, nullptr) == 0);
    CHECK(second.begin(other.address(), kBytes));  // above theirs again
    other.truncate(0);
    CHECK(other.sum() == 0 && second.lost() && calls == 0);
    first.end();
    second.end();
    CHECK(handler().sa_sigaction == &pass_back);
    const Mapping third;
    third.truncate(0);
    third.sum();
  });
  CHECK(signal_number == SIGBUS);
}

TEST(a_signal_that_is_sent_is_handled_as_before) {
  const Mapping mapping;
  PageGuard guard;
  CHECK(guard.begin(mapping.address(), kBytes));
  CHECK(ended_by([] { kill(getpid(), SIGBUS); }) == SIGBUS);
  guard.end();
  signal(SIGBUS, SIG_IGN);
  CHECK(guard.begin(mapping.address(), kBytes));
  CHECK(ended_by([] { kill(getpid(), SIGBUS); }) == 0);
  const Mapping other;
  other.truncate(0);
  CHECK(ended_by([&] { other.sum(); }) == SIGBUS);  // a fault is never ignored
  guard.end();
  signal(SIGBUS, SIG_DFL);
}

TEST(a_forked_child_is_guarded_too) {
  const Mapping mapping;
  PageGuard guard;
  CHECK(guard.begin(mapping.address(), kBytes));
  mapping.truncate(0);
  CHECK(ended_by([&] {
          CHECK(mapping.sum() == 0 && guard.lost());
          const Mapping own;
          PageGuard another;
          CHECK(another.begin(own.address(), kBytes));
          own.truncate(0);
          CHECK(own.sum() == 0 && another.lost());
        }) == 0);
  CHECK(!guard.lost());
}

}  // namespace
}  // namespace yolotf
