// The scan for processors with AVX2. Memory bandwidth limits it. Only functions marked
// YOLOTF_TARGET are compiled for AVX2; see scatter_avx2.cc.
#include "weights/damage_kernels.h"

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

// Sets all bits of the numbers that are at least `limit`, unsigned.
YOLOTF_TARGET inline __m256i at_least(__m256i numbers, __m256i limit) noexcept {
  return _mm256_cmpeq_epi32(_mm256_max_epu32(numbers, limit), numbers);
}

YOLOTF_TARGET std::uint64_t find_notable_avx2(const std::byte* bytes,
                                              std::uint64_t count) noexcept {
  const __m256i magnitude = all8(kMagnitudeBits);
  const __m256i factor = all8(kSampleFactor);
  const __m256i infinity = all8(kInfinityBits);
  const __m256i huge = all8(kHugeBits);
  const __m256i threshold = all8(kSampleThreshold);
  std::uint64_t notable_blocks = 0;
  for (std::uint64_t i = 0; i < count; ++i, bytes += kBlockBytes) {
    for (std::uint64_t line = 0; line < kBlockBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(bytes + kPrefetchDistance + line), _MM_HINT_T0);
    }
    __m256i largest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    __m256i product[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::uint64_t j = 0; j < 8; ++j) {
      const __m256i bits = load8(bytes + 32 * j);
      largest[j % 2] = _mm256_max_epu32(largest[j % 2], _mm256_and_si256(bits, magnitude));
      product[j % 2] = _mm256_max_epu32(product[j % 2], _mm256_mullo_epi32(bits, factor));
    }
    const __m256i most = _mm256_max_epu32(largest[0], largest[1]);
    const __m256i notable = _mm256_or_si256(
        at_least(most, huge), at_least(_mm256_max_epu32(product[0], product[1]), threshold));
    const int ordinary = _mm256_testz_si256(notable, notable) & ~_mm256_testz_si256(most, infinity);
    notable_blocks |= static_cast<std::uint64_t>((ordinary & 1) ^ 1) << i;
  }
  return notable_blocks;
}

YOLOTF_TARGET BlockSummary summarize_avx2(const std::byte* bytes) noexcept {
  const __m256i factor = all8(kSampleFactor);
  const __m256i threshold = all8(kSampleThreshold);
  __m256i largest = _mm256_setzero_si256();
  BlockSummary block;
  for (std::uint64_t j = 0; j < 8; ++j) {
    const __m256i bits = load8(bytes + 32 * j);
    largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, all8(kMagnitudeBits)));
    const __m256i chosen = at_least(_mm256_mullo_epi32(bits, factor), threshold);
    const auto samples =
        static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(chosen)));
    block.samples |= static_cast<std::uint64_t>(samples) << (8 * j);
  }
  block.huge = _mm256_movemask_epi8(at_least(largest, all8(kHugeBits))) != 0;
  block.zeros = _mm256_testz_si256(largest, all8(kInfinityBits)) != 0;
  return block;
}

}  // namespace

ScanKernels avx2_scan() noexcept {
  const bool usable = __builtin_cpu_supports("avx2") != 0;
  return usable ? ScanKernels{find_notable_avx2, summarize_avx2} : ScanKernels{nullptr, nullptr};
}

}  // namespace yolotf

#else

namespace yolotf {

ScanKernels avx2_scan() noexcept { return {nullptr, nullptr}; }

}  // namespace yolotf

#endif
