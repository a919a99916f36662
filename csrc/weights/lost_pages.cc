#include "weights/lost_pages.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

namespace yolotf {

// The handler reads these without locks.
struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  // 0: this range is free
  std::atomic<bool> lost{false};
};

namespace {

// Loads at the same time. A file beyond these is copied.
std::array<GuardedRange, 64> ranges;

std::mutex mutex;  // of the installation; the handler does not take it
int guards = 0;
// What to call for faults elsewhere: `below` is what our handler replaced last. If that calls our
// handler in turn, because it was installed above ours once, `lowest` ends the circle: what our
// handler replaced first.
struct sigaction below = {};
struct sigaction lowest = {};
bool installed_before = false;
std::atomic<const siginfo_t*> passed_on{nullptr};

bool replace_pages(std::uintptr_t address) noexcept {
  for (GuardedRange& range : ranges) {
    const std::uintptr_t begin = range.begin.load();
    const std::uintptr_t end = range.end.load();
    const bool steady = range.begin.load() == begin;  // another load may begin or end meanwhile
    if (steady && address >= begin && address < end) {
      range.lost.store(true);
      // Other threads may read the range at this moment: they see the file's bytes or zeros.
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
  const bool again = passed_on.exchange(info) == info;
  const struct sigaction& next = again ? lowest : below;
  const bool sent = info->si_code <= 0;  // by kill() and its like, not by a fault
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    next.sa_sigaction(number, info, context);
  } else if (next.sa_handler == SIG_DFL || (next.sa_handler == SIG_IGN && !sent)) {
    // After return, the fault happens again, and ends the process where it belongs. Not even
    // SIG_IGN ignores faults.
    struct sigaction plain = {};
    plain.sa_handler = SIG_DFL;
    sigaction(number, &plain, nullptr);
    if (sent) {
      raise(number);
    }
  } else if (next.sa_handler != SIG_IGN) {
    next.sa_handler(number);
  }
  const siginfo_t* ours = info;
  passed_on.compare_exchange_strong(ours, nullptr);
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
  below = current;  // first: the handler may run at once
  if (!installed_before) {
    lowest = current;
    installed_before = true;
  }
  struct sigaction action = {};
  action.sa_sigaction = &handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, nullptr) == 0;
}

// If another handler was installed above ours, ours stays: the other one may call it.
void uninstall() noexcept {
  struct sigaction current = {};
  if (sigaction(SIGBUS, nullptr, &current) == 0 && is_ours(current)) {
    sigaction(SIGBUS, &below, nullptr);
    installed_before = false;
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
