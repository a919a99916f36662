#include "weights/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>

#include "base/parallel.h"
#include "weights/bytes.h"

namespace yolotf {
namespace {

// Adds `stats` to *total.
void merge(const Stats& stats, Stats* total) noexcept {
  if (stats.count > stats.nonfinite) {
    const bool first = total->count == total->nonfinite;
    total->minimum = first ? stats.minimum : std::min(total->minimum, stats.minimum);
    total->maximum = first ? stats.maximum : std::max(total->maximum, stats.maximum);
  }
  total->count += stats.count;
  total->nonfinite += stats.nonfinite;
  total->negative += stats.negative;
  total->zero += stats.zero;
  total->sum += stats.sum;
  total->sum_of_squares += stats.sum_of_squares;
}

}  // namespace

void add_stats(const std::byte* bytes, std::uint64_t count, Stats* stats) noexcept {
  // Eight lanes without branches, so that compilers vectorize the inner loop.
  constexpr std::uint64_t kLanes = 8;
  constexpr std::uint64_t kBlock = 1024;
  const bool no_finite = stats->count == stats->nonfinite;
  double minimum = no_finite ? std::numeric_limits<double>::infinity() : stats->minimum;
  double maximum = no_finite ? -std::numeric_limits<double>::infinity() : stats->maximum;
  double sums[kLanes] = {};
  double squares[kLanes] = {};
  for (std::uint64_t done = 0; done < count; done += kBlock) {
    float block[kBlock];
    const std::uint64_t size = std::min(kBlock, count - done);
    std::memcpy(block, bytes + kFloatBytes * done, kFloatBytes * size);
    // The last block is padded with NaN, which changes only `nonfinite`; that is corrected below.
    const std::uint64_t padded_size = (size + kLanes - 1) / kLanes * kLanes;
    std::fill(block + size, block + padded_size, std::numeric_limits<float>::quiet_NaN());
    std::uint32_t nonfinite[kLanes] = {};
    std::uint32_t negative[kLanes] = {};
    std::uint32_t zero[kLanes] = {};
    float low[kLanes];
    float high[kLanes];
    std::fill(low, low + kLanes, std::numeric_limits<float>::infinity());
    std::fill(high, high + kLanes, -std::numeric_limits<float>::infinity());
    for (std::uint64_t i = 0; i < padded_size; i += kLanes) {
      for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
        const float value = block[i + lane];
        const bool finite = std::fabs(value) <= std::numeric_limits<float>::max();
        const double addend = finite ? static_cast<double>(value) : 0.0;
        nonfinite[lane] += finite ? 0U : 1U;
        negative[lane] += value < 0.0F ? 1U : 0U;
        zero[lane] += value == 0.0F ? 1U : 0U;
        low[lane] = finite && value < low[lane] ? value : low[lane];
        high[lane] = finite && value > high[lane] ? value : high[lane];
        sums[lane] += addend;
        squares[lane] += addend * addend;
      }
    }
    stats->nonfinite -= padded_size - size;
    for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
      stats->nonfinite += nonfinite[lane];
      stats->negative += negative[lane];
      stats->zero += zero[lane];
      minimum = std::min(minimum, static_cast<double>(low[lane]));
      maximum = std::max(maximum, static_cast<double>(high[lane]));
    }
  }
  for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
    stats->sum += sums[lane];
    stats->sum_of_squares += squares[lane];
  }
  stats->count += count;
  if (stats->count > stats->nonfinite) {
    stats->minimum = minimum;
    stats->maximum = maximum;
  }
}

bool scan_runs(const MappedFile& file, const std::vector<FloatRun>& runs, int threads,
               std::vector<Stats>* stats, FileError* error) {
  constexpr std::int64_t kChunkFloats = 64 * 1024;
  constexpr auto kBytes = static_cast<std::int64_t>(kFloatBytes);
  struct Chunk {
    std::size_t run;  // index in `runs`
    FloatRun floats;
    Stats stats;
  };
  std::vector<Chunk> chunks;
  const auto file_bytes = static_cast<std::int64_t>(file.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::int64_t offset = runs[i].offset;
    const std::int64_t available = std::max<std::int64_t>(0, file_bytes - offset) / kBytes;
    const std::int64_t count = std::min(runs[i].count, available);
    for (std::int64_t done = 0; done < count; done += kChunkFloats) {
      chunks.push_back({i, {offset + kBytes * done, std::min(kChunkFloats, count - done)}, {}});
    }
  }
  std::mutex mutex;
  bool readable = true;
  run_tasks(chunks.size(), threads, [&](std::size_t i) {
    const std::unique_ptr<std::byte[]> buffer(new std::byte[kBytes * kChunkFloats]);
    Chunk& chunk = chunks[i];
    std::uint64_t read_bytes = 0;
    FileError read_error;
    if (!file.read_at(static_cast<std::uint64_t>(chunk.floats.offset),
                      static_cast<std::uint64_t>(kBytes * chunk.floats.count), buffer.get(),
                      &read_bytes, &read_error)) {
      const std::lock_guard<std::mutex> lock(mutex);
      readable = false;
      *error = read_error;
      return;
    }
    add_stats(buffer.get(), read_bytes / kFloatBytes, &chunk.stats);
  });
  stats->assign(runs.size(), Stats());
  for (const Chunk& chunk : chunks) {
    merge(chunk.stats, &(*stats)[chunk.run]);
  }
  return readable;
}

}  // namespace yolotf
