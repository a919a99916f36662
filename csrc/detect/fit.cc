#include "detect/fit.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/parallel.h"
#include "base/product.h"

namespace yolotf {
namespace {

constexpr float kPadding = 0.5F;
constexpr std::int64_t kTaskFloats = 1 << 16;  // of the input; fewer are not worth a thread

// The two rows or columns of an image that a row or column of the result is interpolated from.
struct Interpolation {
  std::int64_t first = 0;
  std::int64_t second = 0;
  float second_weight = 0;  // the first one has 1 - second_weight
  // The weights in OpenCV's fixed point: in units of 1/2048, whose sum may be off by one unit, or
  // of 1/256 for INTER_LINEAR_EXACT.
  std::int32_t first_fixed = 0;
  std::int32_t second_fixed = 0;
};

constexpr int kFixedBits = 11;              // INTER_RESIZE_COEF_BITS
constexpr std::int32_t kExactOne = 1 << 8;  // ufixedpoint16

// cv::resize with INTER_LINEAR, or INTER_LINEAR_EXACT (resize.cpp, interpolationLinear): half-pixel
// centers, edges clamped.
template <bool kExact>
std::vector<Interpolation> opencv_interpolations(std::int64_t from, std::int64_t to) {
  using Real = std::conditional_t<kExact, double, float>;
  constexpr Real kOne = kExact ? kExactOne : 1 << kFixedBits;
  const double scale = 1.0 / (static_cast<double>(to) / static_cast<double>(from));
  std::vector<Interpolation> interpolations(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const auto position = static_cast<Real>((static_cast<double>(i) + 0.5) * scale - 0.5);
    const Real floor = std::floor(position);
    const auto index = static_cast<std::int64_t>(floor);
    Interpolation& out = interpolations[static_cast<std::size_t>(i)];
    out.first = std::clamp<std::int64_t>(index, 0, from - 1);
    out.second = std::min(out.first + 1, from - 1);
    const Real weight = index < 0 || index >= from - 1 ? Real{0} : position - floor;
    out.second_weight = static_cast<float>(weight);
    out.second_fixed = static_cast<std::int32_t>(std::lrint(weight * kOne));
    out.first_fixed = kExact ? kExactOne - out.second_fixed
                             : static_cast<std::int32_t>(std::lrint((Real{1} - weight) * kOne));
  }
  return interpolations;
}

// In float32, as in TensorFlow's ResizeBilinear.
std::vector<Interpolation> darknet_interpolations(std::int64_t from, std::int64_t to) {
  const float scale = to > 1 ? static_cast<float>(from - 1) / static_cast<float>(to - 1) : 0.0F;
  std::vector<Interpolation> interpolations(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const float position = static_cast<float>(i) * scale;
    const float floor = std::floor(position);
    Interpolation& out = interpolations[static_cast<std::size_t>(i)];
    out.first = std::min(static_cast<std::int64_t>(floor), from - 1);
    out.second = std::min(static_cast<std::int64_t>(std::ceil(position)), from - 1);
    out.second_weight = position - floor;
  }
  return interpolations;
}

// Resizes a side of `from` pixels to `to`.
std::vector<Interpolation> interpolations(std::int64_t from, std::int64_t to, Resize resize) {
  switch (resize) {
    case Resize::kOpenCv:
      return opencv_interpolations<false>(from, to);
    case Resize::kOpenCvExact:
      return opencv_interpolations<true>(from, to);
    case Resize::kDarknet:
      break;
  }
  return darknet_interpolations(from, to);
}

// Resizes an image into its input.
class FittedImage {
 public:
  FittedImage(const Image& image, std::int64_t height, std::int64_t width, std::int64_t channels,
              float* out, Resize resize)
      : image_(image),
        height_(height),
        width_(width),
        channels_(channels),
        out_(out),
        top_((height - image.inner_height) / 2),
        left_((width - image.inner_width) / 2),
        resize_(resize),
        rows_(interpolations(image.height, image.inner_height, resize)),
        columns_(interpolations(image.width, image.inner_width, resize)) {}

  std::int64_t height() const noexcept { return height_; }

  // Writes rows `begin` to `end` of the input.
  void write(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t row = begin; row < end; ++row) {
      float* begin_row = out_ + row * width_ * channels_;
      const std::int64_t inner_row = row - top_;
      if (inner_row < 0 || inner_row >= image_.inner_height) {
        std::fill(begin_row, begin_row + width_ * channels_, kPadding);
        continue;
      }
      float* begin_inner = begin_row + left_ * channels_;
      float* end_inner = begin_inner + image_.inner_width * channels_;
      std::fill(begin_row, begin_inner, kPadding);
      std::fill(end_inner, begin_row + width_ * channels_, kPadding);
      if (image_.is_uint8) {
        resize(static_cast<const std::uint8_t*>(image_.pixels), inner_row, begin_inner);
        for (float* value = begin_inner; value != end_inner; ++value) {
          *value /= 255.0F;
        }
      } else {
        resize(static_cast<const float*>(image_.pixels), inner_row, begin_inner);
      }
    }
  }

 private:
  template <typename Value>
  void resize(const Value* pixels, std::int64_t inner_row, float* out) const {
    const Interpolation& row = rows_[static_cast<std::size_t>(inner_row)];
    const Value* upper = pixels + row.first * image_.width * channels_;
    if (image_.height == image_.inner_height && image_.width == image_.inner_width) {
      std::copy(upper, upper + image_.width * channels_, out);
      return;
    }
    const Value* lower = pixels + row.second * image_.width * channels_;
    if constexpr (std::is_same_v<Value, std::uint8_t>) {
      if (resize_ == Resize::kOpenCv) {
        blend_bytes<false>(upper, lower, row, out);
        return;
      }
      if (resize_ == Resize::kOpenCvExact) {
        blend_bytes<true>(upper, lower, row, out);
        return;
      }
    }
    if (channels_ == 3) {
      blend<Value, 3>(upper, lower, row.second_weight, out);
    } else {
      blend<Value, 0>(upper, lower, row.second_weight, out);
    }
  }

  template <bool kExact>
  void blend_bytes(const std::uint8_t* upper, const std::uint8_t* lower, const Interpolation& row,
                   float* out) const {
    if (channels_ == 3) {
      blend_bytes<kExact, 3>(upper, lower, row, out);
    } else {
      blend_bytes<kExact, 0>(upper, lower, row, out);
    }
  }

  // kChannels: the number of channels if known at compile time, else 0.
  template <bool kExact, int kChannels>
  void blend_bytes(const std::uint8_t* upper, const std::uint8_t* lower, const Interpolation& row,
                   float* out) const {
    const std::int64_t channels = kChannels == 0 ? channels_ : kChannels;
    for (const Interpolation& column : columns_) {
      const std::int64_t left = column.first * channels;
      const std::int64_t right = column.second * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int32_t above =
            upper[left + c] * column.first_fixed + upper[right + c] * column.second_fixed;
        const std::int32_t below =
            lower[left + c] * column.first_fixed + lower[right + c] * column.second_fixed;
        std::int32_t level;
        if constexpr (kExact) {  // 16 fractional bits, rounded half up (vlineResize)
          level = (above * row.first_fixed + below * row.second_fixed + (1 << 15)) >> 16;
        } else {  // drops bits before adding (VResizeLinear of bytes)
          level = (((row.first_fixed * (above >> 4)) >> 16) +
                   ((row.second_fixed * (below >> 4)) >> 16) + 2) >>
                  2;
        }
        *out++ = static_cast<float>(level);
      }
    }
  }

  template <typename Value, int kChannels>
  void blend(const Value* upper, const Value* lower, float lower_weight, float* out) const {
    const std::int64_t channels = kChannels == 0 ? channels_ : kChannels;
    for (const Interpolation& column : columns_) {
      const std::int64_t left = column.first * channels;
      const std::int64_t right = column.second * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto a = static_cast<float>(upper[left + c]);
        const auto b = static_cast<float>(lower[left + c]);
        const float above = a + (static_cast<float>(upper[right + c]) - a) * column.second_weight;
        const float below = b + (static_cast<float>(lower[right + c]) - b) * column.second_weight;
        *out++ = above + (below - above) * lower_weight;
      }
    }
  }

  const Image& image_;
  std::int64_t height_;
  std::int64_t width_;
  std::int64_t channels_;
  float* out_;
  std::int64_t top_;  // of the resized image in the input
  std::int64_t left_;
  Resize resize_;
  std::vector<Interpolation> rows_;
  std::vector<Interpolation> columns_;
};

}  // namespace

std::int64_t input_floats(std::int64_t count, std::int64_t height, std::int64_t width,
                          std::int64_t channels) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  const std::int64_t floats = product(product(count, height), product(width, channels));
  return floats <= kMost ? floats : -1;
}

void fit(const std::vector<Image>& images, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads, Resize resize) {
  std::vector<FittedImage> fitted;
  fitted.reserve(images.size());
  for (const Image& image : images) {
    fitted.emplace_back(image, height, width, channels, out, resize);
    out += height * width * channels;
  }
  const std::int64_t rows = std::max<std::int64_t>(1, kTaskFloats / (width * channels));
  const std::int64_t parts = (height + rows - 1) / rows;
  run_tasks(fitted.size() * static_cast<std::size_t>(parts), threads, [&](std::size_t task) {
    const std::int64_t begin = static_cast<std::int64_t>(task) % parts * rows;
    fitted[task / static_cast<std::size_t>(parts)].write(begin, std::min(begin + rows, height));
  });
}

}  // namespace yolotf
