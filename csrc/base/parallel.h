// Runs independent tasks on a few threads, including the caller's. Uses only the standard library.
#ifndef YOLOTF_CSRC_BASE_PARALLEL_H_
#define YOLOTF_CSRC_BASE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace yolotf {

/// Runs task(0) to task(count - 1) on up to `threads` threads, in any order, and waits for them. If
/// tasks throw, rethrows the last exception; some tasks may then not have run.
template <typename Task>
void run_tasks(std::size_t count, int threads, const Task& task) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) {
        task(i);
      }
    } catch (...) {  // such as bad_alloc: exceptions must not escape a thread
      const std::lock_guard<std::mutex> lock(mutex);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(std::min(count, static_cast<std::size_t>(std::max(threads, 1))));
  for (std::size_t i = 1; i < count && static_cast<int>(i) < threads; ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::exception&) {  // the system has no more threads or memory
      break;
    }
  }
  work();
  for (std::thread& helper : helpers) {
    helper.join();
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}

}  // namespace yolotf

#endif  // YOLOTF_CSRC_BASE_PARALLEL_H_
