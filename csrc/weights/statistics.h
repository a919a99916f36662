// Statistics of runs of floats, in memory and in files.
#ifndef YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
#define YOLOTF_CSRC_WEIGHTS_STATISTICS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/mapped_file.h"

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

// Floats of a file: `offset` in bytes from its start, `count` in floats; neither is negative.
struct FloatRun {
  std::int64_t offset = 0;
  std::int64_t count = 0;
};

// Reads an open file on up to `threads` threads; (*stats)[i] are the statistics of runs[i], the
// same for any number of threads. Runs may overlap; what lies past the end of the file does not
// count. Returns false if the file cannot be read. Throws bad_alloc only.
bool scan_runs(const MappedFile& file, const std::vector<FloatRun>& runs, int threads,
               std::vector<Stats>* stats, FileError* error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_STATISTICS_H_
