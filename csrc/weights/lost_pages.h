// Survives the loss of a mapped file's pages.
//
// Touching a page whose part of the file is gone (another process truncated the file, the disk
// failed) raises SIGBUS, which ends the process. While a mapping is guarded, a handler of SIGBUS
// replaces all of it by zeros instead, and the thread goes on; lost() then says that the bytes are
// not the file's. Whoever reads a guarded mapping must therefore ask lost() afterwards, before
// using what was read.
//
// The handler is installed with the first guard and removed with the last one. Faults elsewhere,
// and signals that another process sends, go to the handler that was installed before. It works
// with any number of threads, and in a forked child.
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

  // Guards a mapping. Returns false if it cannot: there are too many guards, or no handler can be
  // installed. The guard must end before the mapping does.
  bool begin(void* mapping, std::uint64_t size) noexcept;
  void end() noexcept;

  // Whether pages have been replaced since begin().
  bool lost() const noexcept;

 private:
  GuardedRange* range_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_LOST_PAGES_H_
