// The scan for processors with AVX2, limited by memory bandwidth. Only functions marked
// YOLOTF_TARGET are compiled for AVX2; see scatter_avx2.cc.
#include "weights/content_kernels.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

namespace yolotf {
namespace {

#define YOLOTF_TARGET __attribute__((target("avx2")))

YOLOTF_TARGET inline __m256i load8(const std::byte* bytes) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

YOLOTF_TARGET inline __m256i all8(std::uint32_t bits) noexcept {
  return _mm256_set1_epi32(static_cast<int>(bits));
}

// Bit i: product i is kSampleMark or more.
YOLOTF_TARGET inline std::uint32_t marks(__m256i products) noexcept {
  const __m256i reached =
      _mm256_cmpeq_epi32(_mm256_max_epu32(products, all8(kSampleMark)), products);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(reached)));
}

YOLOTF_TARGET std::uint64_t skip_dull_avx2(const std::byte* bytes, std::uint64_t count,
                                           Block* block) noexcept {
  const __m256i magnitude = all8(kMagnitudeBits);
  const __m256i factor = all8(kSampleFactor);
  const __m256i infinity = all8(kInfinityBits);
  const __m256i huge = all8(kHugeBits);
  for (std::uint64_t i = 0; i < count; ++i, bytes += kBlockBytes) {
    __m256i largest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    __m256i product[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::uint64_t j = 0; j < 8; ++j) {
      const __m256i bits = load8(bytes + 32 * j);
      largest[j % 2] = _mm256_max_epu32(largest[j % 2], _mm256_and_si256(bits, magnitude));
      product[j % 2] = _mm256_max_epu32(product[j % 2], _mm256_mullo_epi32(bits, factor));
    }
    // Magnitudes compare correctly as signed numbers too: the highest bit is cleared.
    const __m256i most = _mm256_max_epu32(largest[0], largest[1]);
    const __m256i usual = _mm256_cmpgt_epi32(huge, most);
    block->huge = _mm256_movemask_epi8(usual) != -1;
    block->zeros = _mm256_testz_si256(most, infinity) != 0;
    block->samples = 0;
    if (marks(_mm256_max_epu32(product[0], product[1])) != 0) {
      for (std::uint64_t j = 0; j < 8; ++j) {
        const __m256i products = _mm256_mullo_epi32(load8(bytes + 32 * j), factor);
        block->samples |= static_cast<std::uint64_t>(marks(products)) << (8 * j);
      }
    }
    if (!block->dull()) {
      return i;
    }
  }
  return count;
}

}  // namespace

SkipDull avx2_skip_dull() noexcept {
  static const bool usable = __builtin_cpu_supports("avx2") != 0;
  return usable ? skip_dull_avx2 : nullptr;
}

}  // namespace yolotf

#else

namespace yolotf {

SkipDull avx2_skip_dull() noexcept { return nullptr; }

}  // namespace yolotf

#endif
