// Keeps the process alive when pages of a mapped file are lost.
//
// Reading a page whose part of the file is gone (another process truncated the file, the disk
// failed) raises SIGBUS, which ends the process. While a mapping is guarded, a SIGBUS handler
// replaces the whole mapping by zeros instead, the thread goes on, and lost() returns true. So
// after reading a guarded mapping, call lost() before using what was read.
//
// The handler is installed with the first guard and removed with the last one. Faults elsewhere,
// and signals that another process sends, go to the handler that was installed before. All of this
// works with any number of threads, and in a forked child.
#ifndef YOLOTF_CSRC_WEIGHTS_LOST_PAGES_H_
#define YOLOTF_CSRC_WEIGHTS_LOST_PAGES_H_

#include <cstdint>

namespace yolotf {

struct GuardedRange;

class PageGuard {
 public:
  PageGuard() = default;
  ~PageGuard() { end(); }
  PageGuard(const PageGuard&) = delete;
  PageGuard& operator=(const PageGuard&) = delete;

  // Guards a mapping. Returns false if there are too many guards or no handler can be installed.
  // The guard must end before the mapping does.
  bool begin(void* mapping, std::uint64_t size) noexcept;
  void end() noexcept;

  // Whether pages have been replaced since begin().
  bool lost() const noexcept;

 private:
  GuardedRange* range_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_LOST_PAGES_H_
