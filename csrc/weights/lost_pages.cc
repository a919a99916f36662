#include "weights/lost_pages.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

namespace yolotf {

// The handler reads it without locks.
struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  // 0: unused
  std::atomic<bool> lost{false};
};

namespace {

// One for each simultaneous load; further files are copied instead of mapped.
std::array<GuardedRange, 64> ranges;

std::mutex mutex;  // for everything here that the handler does not change
int guards = 0;
// The handlers that ours passes other faults to. `previous` is the one that it replaced last. If
// that one in turn calls ours, which it replaced itself before, `original`, the one that ours
// replaced first, ends the circle.
struct sigaction previous = {};
struct sigaction original = {};
bool has_original = false;
std::atomic<const siginfo_t*> passed_on{nullptr};  // the signal that is being passed on

bool replace_pages(std::uintptr_t address) noexcept {
  for (GuardedRange& range : ranges) {
    const std::uintptr_t begin = range.begin.load();
    const std::uintptr_t end = range.end.load();
    const bool consistent = range.begin.load() == begin;  // another load may begin or end meanwhile
    if (consistent && address >= begin && address < end) {
      range.lost.store(true);
      // Threads that read the range meanwhile see the file's bytes or zeros.
      return mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
  }
  return false;
}

void handle(int number, siginfo_t* info, void* context) {
  const int error = errno;
  if (info->si_code == BUS_ADRERR &&
      replace_pages(reinterpret_cast<std::uintptr_t>(info->si_addr))) {
    errno = error;
    return;
  }
  // A handler that passes the signal on passes the same `info`.
  const bool circular = passed_on.exchange(info) == info;
  const struct sigaction& next = circular ? original : previous;
  const bool sent = info->si_code <= 0;  // by kill() or the like; not a fault
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    next.sa_sigaction(number, info, context);
  } else if (next.sa_handler == SIG_DFL || (next.sa_handler == SIG_IGN && !sent)) {
    // After the return, the fault occurs again and ends the process there. SIG_IGN does not ignore
    // faults.
    struct sigaction default_action = {};
    default_action.sa_handler = SIG_DFL;
    sigaction(number, &default_action, nullptr);
    if (sent) {
      raise(number);
    }
  } else if (next.sa_handler != SIG_IGN) {
    next.sa_handler(number);
  }
  const siginfo_t* expected = info;
  passed_on.compare_exchange_strong(expected, nullptr);
  errno = error;
}

bool is_ours(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &handle;
}

bool install() noexcept {
  static const bool locked_at_forks = [] {
    return pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); }) ==
           0;
  }();
  struct sigaction current = {};
  if (!locked_at_forks || sigaction(SIGBUS, nullptr, &current) != 0) {
    return false;
  }
  if (is_ours(current)) {
    return true;
  }
  previous = current;  // before the installation: the handler may run at once
  if (!has_original) {
    original = current;
    has_original = true;
  }
  struct sigaction action = {};
  action.sa_sigaction = &handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, nullptr) == 0;
}

// If another handler has replaced ours since, ours stays: the other one may call it.
void uninstall() noexcept {
  struct sigaction current = {};
  if (sigaction(SIGBUS, nullptr, &current) == 0 && is_ours(current)) {
    sigaction(SIGBUS, &previous, nullptr);
    has_original = false;
  }
}

}  // namespace

bool PageGuard::begin(void* mapping, std::uint64_t size) noexcept {
  const std::lock_guard<std::mutex> lock(mutex);
  for (GuardedRange& range : ranges) {
    if (range.end.load() == 0) {
      if (!install()) {
        return false;
      }
      ++guards;
      const auto begin = reinterpret_cast<std::uintptr_t>(mapping);
      range.lost.store(false);
      range.begin.store(begin);
      range.end.store(begin + size);
      range_ = &range;
      return true;
    }
  }
  return false;
}

void PageGuard::end() noexcept {
  if (range_ != nullptr) {
    const std::lock_guard<std::mutex> lock(mutex);
    range_->end.store(0);
    range_ = nullptr;
    if (--guards == 0) {
      uninstall();
    }
  }
}

bool PageGuard::lost() const noexcept { return range_ != nullptr && range_->lost.load(); }

}  // namespace yolotf
