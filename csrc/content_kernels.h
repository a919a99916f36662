// What the ways to look at floats share, and where each is found. Inside of content*.cc only.
#ifndef YOLOTF_CSRC_CONTENT_KERNELS_H_
#define YOLOTF_CSRC_CONTENT_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "bytes.h"

namespace yolotf {

constexpr std::uint32_t kMagnitudeBits = 0x7fffffffU;
constexpr std::uint32_t kInfinityBits = 0x7f800000U;
constexpr std::uint32_t kHugeBits = 0x7149f2caU;  // 1e30

constexpr std::uint64_t kBlock = 64;
constexpr std::uint64_t kBlockBytes = kFloatBytes * kBlock;

// One float in 1,024 is where a sample begins, as its own bits decide: the same floats have the
// same samples wherever they stand. Zero is none.
constexpr std::uint32_t kSampleFactor = 0x9e3779b1U;
constexpr std::uint32_t kSampleMark = 0xffc00000U;  // of the product; or more

// What is to be noted of kBlock floats.
struct Block {
  bool huge = false;          // a number of 1e30 or more, infinity or NaN among them
  bool zeros = false;         // nothing but zeros
  std::uint64_t samples = 0;  // bit i: one begins at float i

  bool dull() const noexcept { return !huge && !zeros && samples == 0; }
};

// Looks at up to `count` blocks. Returns how many were dull before *block; `count` if all are.
using SkipDull = std::uint64_t (*)(const std::byte* bytes, std::uint64_t count,
                                   Block* block) noexcept;

std::uint64_t skip_dull_portable(const std::byte* bytes, std::uint64_t count,
                                 Block* block) noexcept;

// Null if this processor, or this build, has no AVX2.
SkipDull avx2_skip_dull() noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_CONTENT_KERNELS_H_
