#include <algorithm>
#include <type_traits>

#include "weights/scatter_kernels.h"

namespace yolotf {
namespace {

template <Dtype dtype>
void copy_as(const std::byte* source, void* destination, std::uint64_t begin,
             std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  if constexpr (dtype == Dtype::kFloat32) {
    std::memcpy(out + begin, source + kFloatBytes * begin, kFloatBytes * (end - begin));
  } else {
    for (std::uint64_t i = begin; i < end; ++i) {
      out[i] = E::from(load<float>(source + kFloatBytes * i));
    }
  }
}

// Copies the floats of one filter after the other, times its scale.
template <Dtype dtype>
void scale_as(const std::byte* source, const Segment& segment, const Fold& fold, void* destination,
              std::uint64_t begin, std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  const std::uint64_t columns = segment.channels * segment.spatial;
  while (begin < end) {
    const std::uint64_t filter = begin / columns;
    const std::uint64_t filter_end = std::min(end, (filter + 1) * columns);
    const auto scale = static_cast<float>(fold.scale(filter));
    for (; begin < filter_end; ++begin) {
      out[begin] = E::from(load<float>(source + kFloatBytes * begin) * scale);
    }
  }
}

template <Dtype dtype>
void fold_as(const std::byte* source, const Segment& segment, const Fold& fold, void* destination,
             std::uint64_t begin, std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  for (std::uint64_t i = begin; i < end; ++i) {
    out[i] =
        E::from(segment.role == Role::kScale ? static_cast<float>(fold.scale(i))
                                             : fold.bias(i, load<float>(source + kFloatBytes * i)));
  }
}

template <Dtype dtype, bool kFold>
void transpose_portable(const std::byte* source, const Segment& segment, const Fold& fold,
                        void* destination, std::uint64_t begin, std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  const std::uint64_t columns = segment.channels * segment.spatial;
  for (std::uint64_t panel = begin; panel < end; panel += kPanel) {
    const std::uint64_t panel_end = std::min(end, panel + kPanel);
    const PanelScale scale(fold, panel, panel_end);
    RowSequence rows(segment);
    for (std::uint64_t column = 0; column < columns; ++column) {
      auto* row = out + rows.next() * segment.filters;
      for (std::uint64_t filter = panel; filter < panel_end; ++filter) {
        const auto value = load<float>(source + kFloatBytes * (filter * columns + column));
        row[filter] = E::from(scaled<kFold>(value, scale.values[filter - panel]));
      }
    }
  }
}

template <Dtype dtype>
Transpose transpose_for(bool folds) noexcept {
  return folds ? transpose_portable<dtype, true> : transpose_portable<dtype, false>;
}

}  // namespace

void copy_portable(const std::byte* source, Dtype dtype, void* destination, std::uint64_t begin,
                   std::uint64_t end) noexcept {
  with_dtype(dtype, [&](auto kind) { copy_as<kind.value>(source, destination, begin, end); });
}

void scale_portable(const std::byte* source, const Segment& segment, const Fold& fold, Dtype dtype,
                    void* destination, std::uint64_t begin, std::uint64_t end) noexcept {
  with_dtype(dtype, [&](auto kind) {
    scale_as<kind.value>(source, segment, fold, destination, begin, end);
  });
}

void fold_vector(const std::byte* source, const Segment& segment, const Fold& fold, Dtype dtype,
                 void* destination, std::uint64_t begin, std::uint64_t end) noexcept {
  with_dtype(dtype, [&](auto kind) {
    fold_as<kind.value>(source, segment, fold, destination, begin, end);
  });
}

Transpose portable_transpose(Dtype dtype, bool folds) noexcept {
  Transpose transpose = nullptr;
  with_dtype(dtype, [&](auto kind) { transpose = transpose_for<kind.value>(folds); });
  return transpose;
}

}  // namespace yolotf
