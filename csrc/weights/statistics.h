// Statistics of floats in memory and in files.
#ifndef YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
#define YOLOTF_CSRC_WEIGHTS_STATISTICS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/mapped_file.h"

namespace yolotf {

struct Stats {
  std::uint64_t count = 0;
  std::uint64_t nonfinite = 0;
  std::uint64_t negative = 0;
  std::uint64_t zero = 0;
  // Of the finite values:
  double minimum = 0;
  double maximum = 0;
  double sum = 0;
  double sum_of_squares = 0;
};

// Adds `count` floats at `bytes` (any alignment) to *stats.
void add_stats(const std::byte* bytes, std::uint64_t count, Stats* stats) noexcept;

// `count` consecutive floats, `offset` bytes from the start of a file. Neither is negative.
struct FloatRun {
  std::int64_t offset = 0;
  std::int64_t count = 0;
};

// Sets (*stats)[i] to the statistics of runs[i] of an open file, on up to `threads` threads. The
// results are the same for any number of threads. Runs may overlap; floats past the end of the file
// are left out. Returns false if the file cannot be read. Throws only bad_alloc.
bool scan_runs(const MappedFile& file, const std::vector<FloatRun>& runs, int threads,
               std::vector<Stats>* stats, FileError* error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
