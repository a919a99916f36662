// Transposes for processors with AVX2. Only functions marked YOLOTF_TARGET are compiled for AVX2: a
// flag for the whole file would also apply to inline functions that other files share.
#include <algorithm>

#include "weights/scatter_kernels.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#include <immintrin.h>

namespace yolotf {
namespace {

#define YOLOTF_TARGET __attribute__((target("avx2,f16c")))

YOLOTF_TARGET inline __m256 load8(const std::byte* bytes) noexcept {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(bytes));
}

// lines[i] becomes column i of the 8 rows at `source`, `stride` bytes apart.
YOLOTF_TARGET inline void transpose8(const std::byte* source, std::uint64_t stride,
                                     __m256* lines) noexcept {
  const __m256 a0 = load8(source);
  const __m256 a1 = load8(source + stride);
  const __m256 a2 = load8(source + 2 * stride);
  const __m256 a3 = load8(source + 3 * stride);
  const __m256 a4 = load8(source + 4 * stride);
  const __m256 a5 = load8(source + 5 * stride);
  const __m256 a6 = load8(source + 6 * stride);
  const __m256 a7 = load8(source + 7 * stride);
  const __m256 b0 = _mm256_unpacklo_ps(a0, a1);
  const __m256 b1 = _mm256_unpackhi_ps(a0, a1);
  const __m256 b2 = _mm256_unpacklo_ps(a2, a3);
  const __m256 b3 = _mm256_unpackhi_ps(a2, a3);
  const __m256 b4 = _mm256_unpacklo_ps(a4, a5);
  const __m256 b5 = _mm256_unpackhi_ps(a4, a5);
  const __m256 b6 = _mm256_unpacklo_ps(a6, a7);
  const __m256 b7 = _mm256_unpackhi_ps(a6, a7);
  const __m256 c0 = _mm256_shuffle_ps(b0, b2, 0x44);
  const __m256 c1 = _mm256_shuffle_ps(b0, b2, 0xee);
  const __m256 c2 = _mm256_shuffle_ps(b1, b3, 0x44);
  const __m256 c3 = _mm256_shuffle_ps(b1, b3, 0xee);
  const __m256 c4 = _mm256_shuffle_ps(b4, b6, 0x44);
  const __m256 c5 = _mm256_shuffle_ps(b4, b6, 0xee);
  const __m256 c6 = _mm256_shuffle_ps(b5, b7, 0x44);
  const __m256 c7 = _mm256_shuffle_ps(b5, b7, 0xee);
  lines[0] = _mm256_permute2f128_ps(c0, c4, 0x20);
  lines[1] = _mm256_permute2f128_ps(c1, c5, 0x20);
  lines[2] = _mm256_permute2f128_ps(c2, c6, 0x20);
  lines[3] = _mm256_permute2f128_ps(c3, c7, 0x20);
  lines[4] = _mm256_permute2f128_ps(c0, c4, 0x31);
  lines[5] = _mm256_permute2f128_ps(c1, c5, 0x31);
  lines[6] = _mm256_permute2f128_ps(c2, c6, 0x31);
  lines[7] = _mm256_permute2f128_ps(c3, c7, 0x31);
}

// Writes 16 numbers; `line` is aligned to 32 bytes if kStream.
template <Dtype dtype, bool kStream>
YOLOTF_TARGET inline void store16(typename Element<dtype>::Type* line, __m256 low,
                                  __m256 high) noexcept {
  if constexpr (dtype == Dtype::kFloat32) {
    if constexpr (kStream) {
      _mm256_stream_ps(line, low);
      _mm256_stream_ps(line + 8, high);
    } else {
      _mm256_storeu_ps(line, low);
      _mm256_storeu_ps(line + 8, high);
    }
  } else if constexpr (dtype == Dtype::kFloat16) {
    auto* out = reinterpret_cast<__m128i*>(line);
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
  } else {
    float values[kPanel];
    _mm256_storeu_ps(values, low);
    _mm256_storeu_ps(values + 8, high);
    for (std::uint64_t i = 0; i < kPanel; ++i) {
      line[i] = to_bfloat16(values[i]);
    }
  }
}

// Columns transposed while the next ones are prefetched.
constexpr std::uint64_t kTile = 64;
static_assert(2 * (kTile / 8) == kPanel, "each step of 8 columns prefetches two rows of a panel");

// Prefetches the part of two rows that lies in a tile. A transpose reads a little of each of 32
// rows in turn, which is more streams than a processor prefetches by itself.
YOLOTF_TARGET inline void prefetch(const std::byte* rows, std::uint64_t stride) noexcept {
  for (std::uint64_t row = 0; row < 2; ++row) {
    for (std::uint64_t line = 0; line < kFloatBytes * kTile; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(rows + row * stride + line), _MM_HINT_T0);
    }
  }
}

template <Dtype dtype, bool kStream, bool kFold>
YOLOTF_TARGET void transpose_panels(const std::byte* source, const Segment& segment,
                                    const Fold& fold, void* destination, std::uint64_t begin,
                                    std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  const std::uint64_t columns = segment.channels * segment.spatial;
  const std::uint64_t stride = kFloatBytes * columns;
  std::uint64_t first = begin;
  while (first + kPanel <= end) {
    const std::uint64_t panels = std::min(kPanels, (end - first) / kPanel);
    __m256 scales[kPanels][2];
    for (std::uint64_t i = 0; i < panels; ++i) {
      const PanelScale scale(fold, first + i * kPanel, first + (i + 1) * kPanel);
      scales[i][0] = _mm256_loadu_ps(scale.values);
      scales[i][1] = _mm256_loadu_ps(scale.values + 8);
    }
    RowSequence rows(segment);
    std::uint64_t column = 0;
    for (; column + 8 <= columns; column += 8) {
      // The next tile to prefetch: to the right, or the first one of the next panels.
      const std::uint64_t right = column / kTile * kTile + kTile;
      const std::uint64_t next =
          right + 8 <= columns ? kFloatBytes * right : panels * kPanel * stride;
      const std::uint64_t row = 2 * (column % kTile / 8);
      typename E::Type* lines[8];
      for (auto& line : lines) {
        line = out + rows.next() * segment.filters + first;
      }
      for (std::uint64_t i = 0; i < panels; ++i) {
        const std::byte* panel = source + (first + i * kPanel) * stride;
        const std::byte* in = panel + kFloatBytes * column;
        prefetch(panel + row * stride + next, stride);
        __m256 low[8];
        __m256 high[8];
        transpose8(in, stride, low);
        transpose8(in + 8 * stride, stride, high);
        for (int j = 0; j < 8; ++j) {
          if constexpr (kFold) {
            low[j] = _mm256_mul_ps(low[j], scales[i][0]);
            high[j] = _mm256_mul_ps(high[j], scales[i][1]);
          }
          store16<dtype, kStream>(lines[j] + i * kPanel, low[j], high[j]);
        }
      }
    }
    for (; column < columns; ++column) {
      auto* row = out + rows.next() * segment.filters;
      for (std::uint64_t i = 0; i < panels; ++i) {
        float scale[kPanel];
        _mm256_storeu_ps(scale, scales[i][0]);
        _mm256_storeu_ps(scale + 8, scales[i][1]);
        for (std::uint64_t j = 0; j < kPanel; ++j) {
          const std::uint64_t filter = first + i * kPanel + j;
          const auto value = load<float>(source + filter * stride + kFloatBytes * column);
          row[filter] = E::from(scaled<kFold>(value, scale[j]));
        }
      }
    }
    first += panels * kPanel;
  }
  if (first < end) {
    portable_transpose(dtype, kFold)(source, segment, fold, destination, first, end);
  }
}

template <Dtype dtype, bool kFold>
YOLOTF_TARGET void transpose_avx2(const std::byte* source, const Segment& segment, const Fold& fold,
                                  void* destination, std::uint64_t begin,
                                  std::uint64_t end) noexcept {
  if constexpr (dtype == Dtype::kFloat32) {
    const bool whole_lines = segment.filters % kPanel == 0 &&
                             reinterpret_cast<std::uintptr_t>(destination) % (4 * kPanel) == 0;
    if (whole_lines) {
      transpose_panels<dtype, true, kFold>(source, segment, fold, destination, begin, end);
      _mm_sfence();
      return;
    }
  }
  transpose_panels<dtype, false, kFold>(source, segment, fold, destination, begin, end);
}

bool has_avx2() noexcept {
  unsigned eax, ebx, ecx, edx;  // __builtin_cpu_supports of older clangs lacks f16c
  return __builtin_cpu_supports("avx2") != 0 && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 &&
         (ecx & bit_F16C) != 0;
}

}  // namespace

Transpose avx2_transpose(Dtype dtype, bool folds) noexcept {
  static const bool usable = has_avx2();
  Transpose transpose = nullptr;
  if (usable) {
    with_dtype(dtype, [&](auto kind) {
      transpose = folds ? transpose_avx2<kind.value, true> : transpose_avx2<kind.value, false>;
    });
  }
  return transpose;
}

}  // namespace yolotf

#else

namespace yolotf {

Transpose avx2_transpose(Dtype, bool) noexcept { return nullptr; }

}  // namespace yolotf

#endif
