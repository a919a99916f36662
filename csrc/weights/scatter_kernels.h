// What the implementations of `scatter` share. Only for scatter*.cc.
#ifndef YOLOTF_CSRC_WEIGHTS_SCATTER_KERNELS_H_
#define YOLOTF_CSRC_WEIGHTS_SCATTER_KERNELS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "weights/plan.h"

namespace yolotf {

// Filters that are transposed together: a cache line of float32, so that whole lines are written,
// past the cache if they are aligned.
constexpr std::uint64_t kPanel = 16;

// Panels that are transposed together. Where rows are kilobytes apart, writing adjacent lines
// together takes a third less time than writing them one by one.
constexpr std::uint64_t kPanels = 2;

constexpr double kEpsilon = 1e-5;  // blas.c:292

// The batch normalization that a block of a segment folds in. Converts to false if it has none.
class Fold {
 public:
  Fold(const std::byte* bytes, const Segment& segment, std::uint64_t block) noexcept
      : gammas_(segment.norm_offset == 0
                    ? nullptr
                    : bytes + segment.norm_offset + kFloatBytes * block * segment.filters),
        array_floats_(segment.all_filters()) {}

  explicit operator bool() const noexcept { return gammas_ != nullptr; }

  double scale(std::uint64_t filter) const noexcept {
    return value(kGamma, filter) / std::sqrt(value(kVariance, filter) + kEpsilon);
  }

  float bias(std::uint64_t filter, float beta) const noexcept {
    return static_cast<float>(static_cast<double>(beta) - value(kMean, filter) * scale(filter));
  }

 private:
  enum NormArray : std::uint64_t { kGamma, kMean, kVariance };  // in the order of the file

  double value(NormArray array, std::uint64_t filter) const noexcept {
    return static_cast<double>(
        load<float>(gammas_ + kFloatBytes * (array * array_floats_ + filter)));
  }

  const std::byte* gammas_;  // of the block
  std::uint64_t array_floats_;
};

// Rounds to nearest, ties to even, as F16C does.
inline std::uint16_t to_float16(float value) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {  // NaN
    return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  }
  if (magnitude >= 0x477ff000U) {  // rounds to infinity
    return static_cast<std::uint16_t>(sign | 0x7c00U);
  }
  if (magnitude >= 0x38800000U) {  // normal
    const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
  }
  if (magnitude < 0x33000000U) {  // below half of the smallest subnormal
    return sign;
  }
  const std::uint32_t shift = 126 - (magnitude >> 23);
  const std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
  const std::uint32_t half = 1U << (shift - 1);
  const std::uint32_t rounded = mantissa + half - 1U + ((mantissa >> shift) & 1U);
  return static_cast<std::uint16_t>(sign | (rounded >> shift));
}

// Rounds to nearest, ties to even.
inline std::uint16_t to_bfloat16(float value) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40U);  // NaN: must not become infinity
  }
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

template <Dtype dtype>
struct Element;
template <>
struct Element<Dtype::kFloat32> {
  using Type = float;
  static Type from(float value) noexcept { return value; }
};
template <>
struct Element<Dtype::kFloat16> {
  using Type = std::uint16_t;
  static Type from(float value) noexcept { return to_float16(value); }
};
template <>
struct Element<Dtype::kBfloat16> {
  using Type = std::uint16_t;
  static Type from(float value) noexcept { return to_bfloat16(value); }
};

// Iterates over the rows of the variable in the order of the file. A block of the file is a matrix
// [filters][channels * spatial]; column (channel, position) becomes row (position, channel) of the
// variable, whose columns are filters.
class RowSequence {
 public:
  explicit RowSequence(const Segment& segment) noexcept
      : channels_(segment.channels), spatial_(segment.spatial) {}

  std::uint64_t next() noexcept {
    const std::uint64_t row = position_ * channels_ + channel_;
    if (++position_ == spatial_) {
      position_ = 0;
      ++channel_;
    }
    return row;
  }

 private:
  std::uint64_t channels_;
  std::uint64_t spatial_;
  std::uint64_t channel_ = 0;
  std::uint64_t position_ = 0;
};

// The scales of the filters of a panel; 1 without a fold.
struct PanelScale {
  PanelScale(const Fold& fold, std::uint64_t begin, std::uint64_t end) noexcept {
    for (std::uint64_t filter = begin; filter < end; ++filter) {
      values[filter - begin] = fold ? static_cast<float>(fold.scale(filter)) : 1.0F;
    }
  }
  float values[kPanel];
};

// Without a fold, value is not even multiplied by 1: TensorFlow's threads flush subnormals to zero.
template <bool kFold>
float scaled(float value, float scale) noexcept {
  return kFold ? value * scale : value;
}

// Calls `function` with the dtype as a template argument.
template <typename Function>
void with_dtype(Dtype dtype, const Function& function) noexcept {
  switch (dtype) {
    case Dtype::kFloat32:
      function(std::integral_constant<Dtype, Dtype::kFloat32>());
      break;
    case Dtype::kFloat16:
      function(std::integral_constant<Dtype, Dtype::kFloat16>());
      break;
    case Dtype::kBfloat16:
      function(std::integral_constant<Dtype, Dtype::kBfloat16>());
      break;
    case Dtype::kOther:
      break;
  }
}

// Transposes filters `begin` to `end` of a block that starts at `source` in the file and at
// `destination` in the variable.
using Transpose = void (*)(const std::byte* source, const Segment& segment, const Fold& fold,
                           void* destination, std::uint64_t begin, std::uint64_t end) noexcept;

// The transpose into variables of `dtype`, with or without a fold.
Transpose portable_transpose(Dtype dtype, bool folds) noexcept;

// Likewise; null if the processor or the build lacks AVX2 or F16C.
Transpose avx2_transpose(Dtype dtype, bool folds) noexcept;

// Copies floats `begin` to `end` in the order of the file.
void copy_portable(const std::byte* source, Dtype dtype, void* destination, std::uint64_t begin,
                   std::uint64_t end) noexcept;

// Copies floats `begin` to `end`, multiplied by the scale of their filter. The segment has one
// filter in each block.
void scale_portable(const std::byte* source, const Segment& segment, const Fold& fold, Dtype dtype,
                    void* destination, std::uint64_t begin, std::uint64_t end) noexcept;

// Writes values `begin` to `end` of a folded bias or kScale, one for each filter.
void fold_vector(const std::byte* source, const Segment& segment, const Fold& fold, Dtype dtype,
                 void* destination, std::uint64_t begin, std::uint64_t end) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_SCATTER_KERNELS_H_
