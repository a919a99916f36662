// Declarations shared by the implementations of `look`. Only for content*.cc.
#ifndef YOLOTF_CSRC_WEIGHTS_CONTENT_KERNELS_H_
#define YOLOTF_CSRC_WEIGHTS_CONTENT_KERNELS_H_

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

// What `look` notes about kBlock floats.
struct Block {
  bool huge = false;          // has a value of 1e30 or more, infinity or NaN
  bool zeros = false;         // all zeros
  std::uint64_t samples = 0;  // bit i: a sample begins at float i

  bool dull() const noexcept { return !huge && !zeros && samples == 0; }
};

// Scans up to `count` blocks. Returns the number of leading blocks that need no closer look, and
// fills *block with the one after them if there is one.
using SkipDull = std::uint64_t (*)(const std::byte* bytes, std::uint64_t count,
                                   Block* block) noexcept;

std::uint64_t skip_dull_portable(const std::byte* bytes, std::uint64_t count,
                                 Block* block) noexcept;

// Null if the processor or the build has no AVX2.
SkipDull avx2_skip_dull() noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_CONTENT_KERNELS_H_
