// What the implementations of `scan_for_damage` share. Only for damage*.cc.
#ifndef YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_
#define YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "weights/bytes.h"

namespace yolotf {

constexpr std::uint32_t kMagnitudeBits = 0x7fffffffU;
constexpr std::uint32_t kInfinityBits = 0x7f800000U;
constexpr std::uint32_t kHugeBits = 0x7149f2caU;  // 1e30

constexpr std::uint64_t kBlockFloats = 64;
constexpr std::uint64_t kBlockBytes = kFloatBytes * kBlockFloats;

// A sample begins at one float in 1,024: where the float's bits times kSampleFactor are at least
// kSampleThreshold. The choice depends on the float alone, so copies of a block have the same
// samples at any offset. Zero is never chosen.
constexpr std::uint32_t kSampleFactor = 0x9e3779b1U;
constexpr std::uint32_t kSampleThreshold = 0xffc00000U;

struct BlockSummary {
  bool huge = false;          // has NaN, infinity or a value of 1e30 or more
  bool zeros = false;         // has only zeros
  std::uint64_t samples = 0;  // bit i: a sample begins at float i
};

// `scan_for_damage` first finds the few notable blocks of a batch, then summarizes them. The
// summaries branch on data, which is often mispredicted; in batches, that does not stall the reads
// of the search.
constexpr std::uint64_t kBatchBlocks = 64;

// How far ahead `find_notable` prefetches: half a batch, so that memory is also being read while
// blocks are summarized.
constexpr std::uint64_t kPrefetchDistance = kBatchBlocks * kBlockBytes / 2;

struct ScanKernels {
  // Examines up to kBatchBlocks blocks. Bit i of the result is set if block i is notable: it has a
  // huge number, a sample, or only zeros.
  std::uint64_t (*find_notable)(const std::byte* bytes, std::uint64_t count) noexcept;
  BlockSummary (*summarize)(const std::byte* bytes) noexcept;
};

ScanKernels portable_scan() noexcept;

// Null functions if the processor or the build has no AVX2.
ScanKernels avx2_scan() noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_
