// Statistics of runs of floats; no function throws, prints or keeps a reference.
#ifndef YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
#define YOLOTF_CSRC_WEIGHTS_STATISTICS_H_

#include <cstddef>
#include <cstdint>

namespace yolotf {

// Statistics of a run of floats.
struct Stats {
  std::uint64_t count = 0;
  std::uint64_t nonfinite = 0;
  std::uint64_t negative = 0;
  std::uint64_t zero = 0;
  double minimum = 0;  // this and the rest: over the finite values
  double maximum = 0;
  double sum = 0;
  double sum_of_squares = 0;
};

// Adds `count` floats at `bytes` (any alignment) to *stats.
void add_stats(const std::byte* bytes, std::uint64_t count, Stats* stats) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
