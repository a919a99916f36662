// Declarations shared by the implementations of `scan_for_damage`. Only for damage*.cc.
#ifndef YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_
#define YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "weights/bytes.h"

namespace yolotf {

constexpr std::uint32_t kMagnitudeBits = 0x7fffffffU;
constexpr std::uint32_t kInfinityBits = 0x7f800000U;
constexpr std::uint32_t kHugeBits = 0x7149f2caU;  // 1e30

constexpr std::uint64_t kBlock = 64;
constexpr std::uint64_t kBlockBytes = kFloatBytes * kBlock;

// A sample begins at one float in 1,024, chosen by the float's bits, so that the same floats have
// the same samples at any offset. Zero is never chosen.
constexpr std::uint32_t kSampleFactor = 0x9e3779b1U;
constexpr std::uint32_t kSampleMark = 0xffc00000U;  // lowest product that is chosen

// What `scan_for_damage` notes about kBlock floats.
struct Block {
  bool huge = false;          // has a value of 1e30 or more, infinity or NaN
  bool zeros = false;         // all zeros
  std::uint64_t samples = 0;  // bit i: a sample begins at float i
};

// `scan_for_damage` finds the few blocks with anything to note in runs of this many, then describes
// them. What it does with a block depends on the block's numbers, so that the processor often
// guesses wrong; between runs, that does not delay the reading of memory.
constexpr std::uint64_t kRunBlocks = 64;

// How far `find` prefetches: half a run, so that memory is also read while blocks are described.
constexpr std::uint64_t kAheadBytes = kRunBlocks * kBlockBytes / 2;

struct ScanKernels {
  // Scans up to kRunBlocks blocks. Bit i: block i has a huge number, a sample, or only zeros.
  std::uint64_t (*find)(const std::byte* bytes, std::uint64_t count) noexcept;
  Block (*describe)(const std::byte* bytes) noexcept;
};

ScanKernels portable_scan() noexcept;

// Null functions if the processor or the build has no AVX2.
ScanKernels avx2_scan() noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_DAMAGE_KERNELS_H_
